"""Prototypical networks (Snell, Swersky and Zemel, NeurIPS 2017): classes as points, and how near a query is to each.

Shapes: w ways, s shots, n queries, d dimensions; leading dimensions are episodes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from datanas.kernels.hardware import widest_float

NORMAL_95 = 1.959963984540054
"""The quantile of the normal distribution that leaves 2.5 % above it."""


def prototypes(support: Float[Tensor, "*e w s d"]) -> Float[Tensor, "*e w d"]:
    """The mean of each class's embedded shots (Eq. 1 of Snell et al.)."""
    return support.mean(dim=-2)


def squared_distances(queries: Float[Tensor, "*e n d"], centres: Float[Tensor, "*e w d"]) -> Float[Tensor, "*e n w"]:
    """||q - c||^2 of every query and every prototype, by one matrix product: q q - 2 q c + c c.

    Both are first moved so that the prototypes' mean is the origin, which leaves distances as they are and keeps their
    digits where all points lie far out. Rounding may make a distance of 0 slightly negative.
    """
    origin = centres.mean(dim=-2, keepdim=True)
    queries, centres = queries - origin, centres - origin
    crossed = queries @ centres.transpose(-2, -1)
    return queries.square().sum(dim=-1, keepdim=True) - 2 * crossed + centres.square().sum(dim=-1)[..., None, :]


def log_probs(embedded: Float[Tensor, "*e w s+q d"], shot: int, temperature: float = 1.0) -> Float[Tensor, "*e w q w"]:
    """Log-probabilities of the queries' classes: log softmax of -||q - c||^2 / temperature (Eq. 2 of Snell et al.).

    Args:
        embedded: the images of each class, its shots first.
        shot: how many are shots.
        temperature: 1 in that paper.

    Returns:
        For each class, each of its queries and each class that it might be of. Double where `embedded` is, otherwise
        float.
    """
    exact = embedded if embedded.dtype == torch.float64 else embedded.float()
    with torch.autocast(embedded.device.type, enabled=False):  # a product in bfloat16 would leave three digits
        centres = prototypes(exact[..., :shot, :])
        queries = exact[..., shot:, :]
        distances = squared_distances(queries.flatten(-3, -2), centres)
        return (-distances / temperature).log_softmax(dim=-1).view(*queries.shape[:-1], -1)


def of_own_class(scores: Float[Tensor, "*e w q w"]) -> Float[Tensor, "*e w q"]:
    """What each query's own class got."""
    return scores.diagonal(dim1=-3, dim2=-1).transpose(-2, -1)


def accuracies(scores: Float[Tensor, "*e w q w"]) -> Float[Tensor, "*e"]:
    """The share of each episode's queries whose own class scored highest."""
    ways = torch.arange(scores.shape[-1], device=scores.device)
    return (scores.argmax(dim=-1) == ways[:, None]).to(widest_float(scores.device)).mean(dim=(-2, -1))


def half_width(values: Float[Tensor, " e"]) -> float:
    """Half the width of the normal 95 % confidence interval of the mean: 1.96 s / sqrt(e).

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    return NORMAL_95 * float(values.cpu().double().std()) / math.sqrt(len(values))
