"""Intersection over union of predicted and true regions, from counts of pixels (Everingham et al., IJCV 2010).

B images, C classes. Of each class is counted how many pixels are of it and were taken for it, are of it, were taken for
it: the regions (3, C) of which everything else follows.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def count_regions(
    predicted: Int64[Tensor, "B ..."], labels: Int64[Tensor, "B ..."], classes: int
) -> Int64[Tensor, "B 3 C"]:
    """Pixels of each class in each image: those both, those of it, those taken for it.

    Args:
        predicted: classes in 0..C-1.
        labels: true classes; pixels of any other number are left out.
        classes: C.
    """
    images = torch.arange(len(labels), device=labels.device).view(-1, *[1] * (labels.dim() - 1))
    counted = (labels >= 0) & (labels < classes)
    first = (images * classes).expand_as(labels)[counted]
    labels, predicted = labels[counted], predicted[counted]
    of_each = (first[labels == predicted] + labels[labels == predicted], first + labels, first + predicted)
    counts = [torch.bincount(each, minlength=len(images) * classes).view(-1, classes) for each in of_each]
    return torch.stack(counts, dim=1)


def intersection_over_union(regions: Tensor) -> Float64[Tensor, "*B C"]:
    """Pixels that are of a class and were taken for it, over those that are of it or were taken for it.

    Args:
        regions: (*B, 3, C), as of `count_regions`, or sums of them.

    Returns:
        In 0..1; NaN for a class that no pixel is of and none was taken for.
    """
    both, true, taken = regions.cpu().double().unbind(dim=-2)
    return both / (true + taken - both)


def pixel_accuracy(regions: Int64[Tensor, "3 C"]) -> float:
    """The share of pixels that were taken for what they are; 0 where there are none."""
    return float(regions[0].sum() / regions[1].sum().clamp_min(1))


def share_of_wrong(regions: Int64[Tensor, "B 3 C"]) -> Float64[Tensor, " B"]:
    """Of each image's pixels that have a class, the share that was taken for another; 0 where none has one."""
    both, true, _ = regions.cpu().double().sum(dim=2).unbind(dim=1)
    return (true - both) / true.clamp_min(1)
