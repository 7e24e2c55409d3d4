"""Intersection over union of predicted and true regions, from one table of counts (Everingham et al., IJCV 2010).

C classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def confusion_matrix(
    predicted: Int64[Tensor, "*pixels"], labels: Int64[Tensor, "*pixels"], classes: int
) -> Int64[Tensor, "C C"]:
    """How many pixels of each true class (row) were taken for each class (column).

    Args:
        predicted: classes in 0..C-1.
        labels: true classes; pixels of any other number are left out.
        classes: C.
    """
    counted = (labels >= 0) & (labels < classes)
    entries = labels[counted] * classes + predicted[counted]
    return torch.bincount(entries, minlength=classes * classes).view(classes, classes)


def intersection_over_union(confusion: Int64[Tensor, "C C"]) -> Float64[Tensor, " C"]:
    """n_cc / (sum_j n_cj + sum_j n_jc - n_cc) for each class c.

    Args:
        confusion: n, as of `confusion_matrix`.

    Returns:
        In 0..1; NaN for a class that no pixel is of and none was taken for.
    """
    counts = confusion.cpu().double()
    both = counts.diagonal()
    return both / (counts.sum(dim=1) + counts.sum(dim=0) - both)


def pixel_accuracy(confusion: Int64[Tensor, "C C"]) -> float:
    """The share of pixels that were taken for what they are; 0 where there are none."""
    return float(confusion.diagonal().sum() / confusion.sum().clamp_min(1))
