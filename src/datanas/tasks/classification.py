"""Image classification (Section 5.1): cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Float32, Float64, Int64
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Exhibit
from datanas.core.own_function import OwnFunction
from datanas.core.settings import ComponentConfig, merge
from datanas.data.augment import Augment, normalise
from datanas.data.batches import sequential
from datanas.kernels.hardware import widest_float
from datanas.tasks import register_task
from datanas.tasks.base import FullEvaluation, Model, Part
from datanas.tasks.class_balance import (
    CLASS_WEIGHTS,
    ClassWeights,
    are_uneven,
    balanced_accuracy,
    class_counts,
    class_weights,
    range_text,
)
from datanas.tasks.class_exhibits import WORST, class_exhibits, confusion_counts, mistakes
from datanas.tasks.kind import Answers
from datanas.tasks.metric import Metric
from datanas.tasks.own_loss import OWN_LOSS, OwnLoss
from datanas.tasks.pooled_task import PooledTask

TOP = 5


@dataclass(frozen=True)
class ImageBatch:
    """Augmented images and their labels.

    Attributes:
        part: where they come from; label smoothing is for training only.
    """

    images: Float32[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"]
    part: Part


@register_task("classification")
class Classification(PooledTask[ImageBatch]):
    """Classify images, in memory or in files."""

    class Config(PooledTask.Config):
        name: Literal["classification"] = "classification"
        train_augment: Augment = Augment(cutout=16)
        class_weights: ClassWeights = Field("none", description=CLASS_WEIGHTS)
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="while training, not while searching")
        loss: OwnFunction = Field(None, description=OWN_LOSS)

        @model_validator(mode="after")
        def of_one_loss(self) -> Self:
            if self.loss is not None and self.class_weights != "none":
                raise ValueError(
                    f"class_weights: are of the task's own loss, and loss says {self.loss}; let that weigh classes, or "
                    f"leave one of both out, got {self.class_weights}"
                )
            if self.loss is not None and self.label_smoothing:
                raise ValueError(
                    f"label_smoothing: is of the task's own loss, and loss says {self.loss}; leave one of both out, "
                    f"got {self.label_smoothing}"
                )
            return self

    metric: ClassVar[Metric] = Metric("accuracy", counts_examples=True, has_error=True)
    keeps_answers: ClassVar[bool] = True
    _shows_what_it_evaluates: ClassVar[bool] = True
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        super().__init__(config, data, device, seed)
        self._counts = class_counts(self.data.train.labels, self.num_classes)
        weights = class_weights(self.config.class_weights, self._counts, self.data.classes)
        self._class_weights = None if weights is None else weights.to(device)
        self._own_loss: OwnLoss | None = None
        if self.config.loss is not None:
            self.draws_like_unknown = True
            scores = torch.randn(4, self.num_classes, generator=seeding.generator(0, "own loss"))
            self._own_loss = OwnLoss(self.config.loss, scores, torch.arange(4) % self.num_classes, device)
        self._answers: Tensor | None = None  # of a pass whose exhibits are wanted: each image's class, and how sure

    def suited_settings(self) -> Mapping[str, Any]:
        """With balanced weights of classes that are uneven, where the loss is the task's."""
        settings = super().suited_settings()
        weighs = are_uneven(self._counts) and self.config.loss is None
        return merge(settings, {"task": {"class_weights": "balanced"}}) if weighs else settings

    def notes(self) -> Sequence[str]:
        notes = super().notes()
        if not are_uneven(self._counts):
            return notes
        are_weighted = "does not weigh them" if self._class_weights is None else "weighs them"
        weights = f"the loss {are_weighted} (--task.class_weights)"
        if self.config.loss is not None:
            weights = f"whether the loss weighs them is up to {self.config.loss}"
        return (
            *notes,
            f"classes are uneven ({range_text(self._counts, self.data.classes)}); {weights}, and balanced accuracy "
            "stands beside accuracy",
        )

    def shuffle_labels(self) -> None:
        self.data = self.data.with_train_labels(self._shuffled_rows(self.data.train.labels))
        self._train = self.data.train.to(self.device)

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        if examples is not None and examples < min(2 * self.num_classes, len(self.data.train)):
            raise DataError(f"search.examples: {examples} is too few for {self.num_classes} classes in two parts")
        super().split_search(ratio, batch_size, examples)

    def split_train(self, validation: float, batch_size: int) -> None:
        cutout, side = self.config.train_augment.cutout, min(self.example_shape[1:])
        if cutout >= 2 * side - 1:
            raise ConfigError(
                f"task.train_augment.cutout: {cutout} blanks every image of {side} pixels; half a side is a good size"
            )
        super().split_train(validation, batch_size)

    def batch(self, part: Part, step: int) -> ImageBatch:
        _, views, labels = self._drawn(part, step)
        return ImageBatch(views, labels, part)

    def loss(self, model: Model, batch: ImageBatch) -> Tensor:
        smoothing = self.config.label_smoothing if batch.part == "train" else 0.0
        return self._with_auxiliary(
            model(batch.images), lambda logits: self._mean_loss(logits, batch.labels, smoothing)
        )

    def _mean_loss(self, logits: Tensor, labels: Int64[Tensor, " batch"], smoothing: float) -> Tensor:
        if self._own_loss is not None:
            return self._own_loss(logits, labels)
        if self._class_weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # Divided by the images, not by their weights as torch does: so the losses of shares average to the batch's.
        total = F.cross_entropy(logits, labels, weight=self._class_weights, label_smoothing=smoothing, reduction="sum")
        return total / len(labels)

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`accuracy` and `loss`; of more than five classes `top5`, the share of labels among the likeliest five; of
        uneven ones `balanced_accuracy`. Weights of classes are the training's alone.
        """
        indices = self._to_measure(part, limit)
        counted = (1, TOP) if self.num_classes > TOP else (1,)
        classes = self.num_classes if are_uneven(self._counts) else 0
        sums = torch.zeros(1 + len(counted) + 2 * classes, device=self.device, dtype=widest_float(self.device))
        own = self._own_metric
        scores = None if own is None else torch.zeros(len(indices), self.num_classes, device=self.device)
        for first, images, labels in self._measured(part, indices):
            logits: Tensor = model(normalise(images, self.data.mean, self.data.std))
            if scores is not None:
                scores[first : first + len(logits)] = logits.float()
            if self._answers is not None:
                sure, answers = logits.float().softmax(dim=1).max(dim=1)
                self._answers[:, first : first + len(logits)] = torch.stack((answers.to(sums), sure.to(sums)))
            lost = F.cross_entropy(logits.float(), labels, reduction="sum")
            whole = torch.stack((lost.to(sums), *(_hits(logits, labels, top).to(sums) for top in counted)))
            by_class: list[Tensor] = []
            if classes:
                right = labels[logits.argmax(dim=1) == labels]
                by_class = [torch.bincount(of, minlength=classes).to(sums) for of in (right, labels)]
            sums += torch.cat([whole, *by_class])
        sums = self.processes.total(sums)
        loss, *shares = (sums[: 1 + len(counted)] / len(indices)).tolist()
        figures = dict(zip(("accuracy", f"top{TOP}"), shares, strict=False))
        if classes:
            figures["balanced_accuracy"] = balanced_accuracy(*sums[1 + len(counted) :].view(2, classes))
        figures["loss"] = loss
        if own is None or scores is None:
            return figures
        labels = self._images(part).labels
        return own.among(figures, self.processes.total(scores).cpu(), labels[indices.to(labels.device)].cpu())

    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """With the confusion matrix, figures of each class, and the mistakes of which the network is surest.

        The answer is `right`.
        """
        if part not in self._chosen:  # a class built on this one takes another part for it
            return super().evaluate_fully(model, part)
        dtype = widest_float(self.device)
        self._answers = torch.zeros(2, len(self._chosen[part]), device=self.device, dtype=dtype)
        try:
            figures = self.evaluate(model, part)
            predictions = self.processes.total(self._answers).cpu()
        finally:
            self._answers = None
        indices, order = self._shuffled(self._chosen[part]).sort()
        predicted, sure = predictions[0, order].long(), predictions[1, order]
        if not sure.all():  # or measures otherwise
            return FullEvaluation(figures, tuple)
        right = predicted == self._images(part).labels.cpu()[indices]
        answers = {"right": right.to(torch.uint8)} if self.keeps_answers else {}
        return FullEvaluation(figures, lambda: self._shown(part, indices, predicted, sure), answers)

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        return counts @ answers["right"].to(counts) / counts.sum(dim=1)

    def _shown(
        self, part: Part, indices: Int64[Tensor, " n"], predicted: Int64[Tensor, " n"], sure: Float[Tensor, " n"]
    ) -> Sequence[Exhibit]:
        source = self._images(part)
        labels = source.labels.cpu()[indices]
        counts = confusion_counts(labels, predicted, self.num_classes)
        shown = class_exhibits(counts, self.data.classes)
        wrong = (labels != predicted).nonzero()[:, 0]
        worst = wrong[sure[wrong].argsort(descending=True, stable=True)[:WORST]]
        if len(worst):
            images, _ = next(sequential(source, indices[worst], len(worst)))
            truth, taken, shares = (column[worst].tolist() for column in (labels, predicted, sure))
            shown.append(mistakes(list(images), truth, taken, shares, self.data.classes))
        return shown


def _hits(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], top: int) -> Int64[Tensor, ""]:
    """How many labels are among the `top` likeliest classes."""
    if top == 1:
        return (logits.argmax(dim=1) == labels).sum()
    return (logits.topk(top, dim=1).indices == labels[:, None]).any(dim=1).sum()
