"""Labels of which several may hold of one image: a sigmoid each, binary cross-entropy, mean average precision."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from datanas.data.types.targets import Kind
from datanas.tasks import register_task
from datanas.tasks.kind import Answers
from datanas.tasks.metric import Metric
from datanas.tasks.target_task import Outputs, TargetTask

THRESHOLD = 0.5
"""From this probability on a label is said to hold."""


@register_task("multilabel")
class Multilabel(TargetTask):
    """Tell which labels hold of an image: any number of them."""

    class Config(TargetTask.Config):
        name: Literal["multilabel"] = "multilabel"

    target_kind: ClassVar[Kind] = "labels"
    metric: ClassVar[Metric] = Metric("map")
    keeps_answers: ClassVar[bool] = True
    races_briefly: ClassVar[bool] = True
    config: Config

    def distance(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """Binary cross-entropy, the mean over images and labels."""
        return F.binary_cross_entropy_with_logits(outputs, targets)

    def figures(self, outputs: Outputs, targets: Outputs) -> dict[str, float]:
        """`map`, the mean over labels of the average precision; `macro_f1`, the mean of F1 at 0.5; and
        `subset_accuracy`, the share of images of which every label is right at 0.5.
        """
        held = outputs.sigmoid() >= THRESHOLD
        return {
            "map": mean_average_precision(outputs, targets),
            "macro_f1": macro_f1(held, targets.bool()),
            "subset_accuracy": float((held == targets.bool()).all(dim=1).cpu().double().mean()),
        }

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        return resampled_precision(answers["outputs"], answers["targets"], counts)


def resampled_precision(
    scores: Float[Tensor, "n k"], targets: Float[Tensor, "n k"], counts: Float64[Tensor, "b n"]
) -> Float64[Tensor, " b"]:
    """`mean_average_precision` of b choices among n images, of which each stands so often in a choice."""
    total, labels = counts.new_zeros(len(counts)), counts.new_zeros(len(counts))
    for outputs, held in zip(scores.nan_to_num().T, targets.T, strict=True):
        order = outputs.argsort(descending=True)
        ranked = -outputs[order]
        held_at = held[order].nonzero()[:, 0]
        last = torch.searchsorted(ranked, ranked[held_at], right=True) - 1  # of those with the same score
        seen = counts[:, order].cumsum(dim=1)[:, last]
        weights = counts[:, order[held_at]]
        right = weights.cumsum(dim=1)[:, torch.searchsorted(held_at, last, right=True) - 1]
        count = weights.sum(dim=1)
        precision = right / seen.clamp_min(1)
        total += (weights * precision).sum(dim=1) / count.clamp_min(1)
        labels += count > 0
    return total / labels.clamp_min(1)


def macro_f1(held: Bool[Tensor, "n k"], targets: Bool[Tensor, "n k"]) -> float:
    """The mean over labels of 2 TP / (2 TP + FP + FN).

    Labels that hold in no image do not count; 0 where none holds.
    """
    there = targets.any(dim=0)
    if not there.any():
        return 0.0
    held, targets = held[:, there], targets[:, there]
    right = (held & targets).sum(dim=0)
    return float((2 * right / (held.sum(dim=0) + targets.sum(dim=0))).cpu().double().mean())


def mean_average_precision(scores: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]) -> float:
    """The mean over labels of sum_i (R_i - R_(i-1)) P_i, with precision P_i and recall R_i at the i-th threshold.

    Labels that hold in no image do not count; 0 where none holds (scikit-learn's `average_precision_score`, macro).
    """
    from sklearn.metrics import average_precision_score  # imported late: it takes a while

    there = targets.any(dim=0)
    if not there.any():
        return 0.0
    scores, targets = scores[:, there].nan_to_num(), targets[:, there]
    return float(average_precision_score(targets.numpy(), scores.numpy(), average="macro"))
