"""Adaptive pairs: images that a network itself finds alike or unlike teach it which are (Chang et al., ICCV 2017).

A network maps an image to label features, a point of the unit sphere with no negative coordinate, one a cluster. The
cosine of two of them is how alike the images are. Pairs above an upper threshold count as similar and pairs below a
lower one as dissimilar; those between are left out until the thresholds, which move with `lambda`, have met.

Shapes: n images, k clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

LabelFeatures = Float[Tensor, "n k"]

UPPER, LOWER = 0.95, 0.455
UPPER_SLOPE, LOWER_SLOPE = -1.0, 0.1
MEETING = (UPPER - LOWER) / (LOWER_SLOPE - UPPER_SLOPE)
"""The lambda, 0.45, at which both thresholds are 0.5."""


class Relations(NamedTuple):
    """What is believed of the pairs of some images.

    Attributes:
        similar: (n, n), whether the pair is one of the same cluster.
        selected: (n, n), whether the pair is learned from; of each two images one entry at most, above the diagonal.
    """

    similar: Bool[Tensor, "n n"]
    selected: Bool[Tensor, "n n"]


def thresholds(value: float) -> tuple[float, float]:
    """u = 0.95 - lambda and l = 0.455 + 0.1 lambda, for `value` = lambda.

    Raises:
        ValueError: lambda is below 0 or beyond the meeting of the two.
    """
    if not 0 <= value <= MEETING:
        raise ValueError(f"lambda must be in 0..{MEETING:.3g}, got {value}")
    upper, lower = UPPER + UPPER_SLOPE * value, LOWER + LOWER_SLOPE * value
    return upper, min(lower, upper)  # rounding must not let them cross


def raised(value: float, eta: float) -> float:
    """lambda after a step of gradient descent on u - l, whose derivative is -1.1: lambda + 1.1 eta, up to the meeting.

    Args:
        eta: the step size, above 0.
    """
    return min(value + eta * (LOWER_SLOPE - UPPER_SLOPE), MEETING)


def label_features(logits: Float[Tensor, "n k"]) -> LabelFeatures:
    """The constraint layer: exp(logits) scaled to Euclidean norm 1, in float32 at least.

    The largest coordinate is that of the largest logit, so it names the cluster.
    """
    positive = (logits if logits.dtype == torch.float64 else logits.float()).softmax(dim=1)
    return F.normalize(positive, dim=1)


def cluster_shares(features: LabelFeatures) -> Float[Tensor, "n k"]:
    """The softmax that label features were scaled from: how far an image belongs to each cluster."""
    return features / features.sum(dim=1, keepdim=True)


def similarities(features: LabelFeatures) -> Float[Tensor, "n n"]:
    """The cosine of every pair, in 0..1 up to rounding; in the type of `features` under autocast too."""
    with torch.autocast(features.device.type, enabled=False):  # bfloat16 tells no 0.95 from 0.953
        return features @ features.T


def relations(cosines: Float[Tensor, "n n"], upper: float, lower: float) -> Relations:
    """Similar from `upper` on, dissimilar below `lower`, and no pair of an image with itself.

    Raises:
        ValueError: the thresholds have crossed.
    """
    if lower > upper:
        raise ValueError(f"the lower threshold must not exceed the upper one, got {lower} and {upper}")
    similar = cosines >= upper
    selected = (similar | (cosines < lower)).triu(diagonal=1)
    return Relations(similar, selected)


def pair_losses(cosines: Float[Tensor, "n n"], pairs: Relations) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy between what is believed of pairs and their cosines.

    Returns:
        The sum over the selected pairs, and their number; both 0 where no pair is selected. A cosine is kept so far
        from 0 and 1 that the loss of a pair is at most 16 (36 in float64).
    """
    margin = torch.finfo(cosines.dtype).eps
    chosen = cosines[pairs.selected].clamp(margin, 1 - margin)
    similar = pairs.similar[pairs.selected]
    return -torch.where(similar, chosen.log(), (-chosen).log1p()).sum(), pairs.selected.sum()


def pair_loss(cosines: Float[Tensor, "n n"], pairs: Relations) -> Float[Tensor, ""]:
    """The mean of `pair_losses` over the selected pairs; 0, with a gradient of 0, where no pair is selected."""
    total, count = pair_losses(cosines, pairs)
    return total / count.clamp_min(1)
