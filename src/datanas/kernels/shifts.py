"""A strided layer at every place where it might have been: its input at all shifts, in the batch.

What a layer of stride 2 gives for the four shifts of its input, and what follows it gives for each of these, put side
by side, is what the layer without stride and its followers with doubled dilation would give (the "a trous" computation;
Shensa, IEEE TSP 1992; Long, Shelhamer and Darrell, CVPR 2015, Section 3.2). No layer needs to know of it, so any
operation serves and keeps its weights. Only near the border it differs: a map that was shifted by one has zeros where
the row or column before it was, and beyond its end.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from datanas.kernels.layout import layout_of


def shifted(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "4b c h w"]:
    """The four shifts of feature maps by 0 and 1 rows and columns: maps [k * b, (k + 1) * b) of shift (k // 2, k % 2).

    An odd side is first filled up to an even one by zeros, so that all shifts have as many strided places.
    """
    height, width = x.shape[2:]
    x = F.pad(x, (0, 1 + width % 2, 0, 1 + height % 2))
    down, right = height + height % 2, width + width % 2
    views = [x[:, :, i : i + down, j : j + right] for i in (0, 1) for j in (0, 1)]
    return torch.cat(views)


def interleaved(x: Float[Tensor, "4b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """The strided maps of the four shifts as one map: place (2i + k // 2, 2j + k % 2) is (i, j) of shift k.

    Args:
        size: height and width of the map, up to twice those of `x`.
    """
    count, channels, height, width = x.shape
    grid = x.reshape(2, 2, count // 4, channels, height, width).permute(2, 3, 4, 0, 5, 1)
    whole = grid.reshape(count // 4, channels, 2 * height, 2 * width)[:, :, : size[0], : size[1]]
    return whole.contiguous(memory_format=layout_of(x))
