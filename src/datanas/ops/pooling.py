"""3x3 pooling, followed by batch norm while searching (Section 5)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.layout import layout_of
from datanas.kernels.norm import BatchNorm2d
from datanas.kernels.switch import runs_by_rows
from datanas.ops import OpSettings, register_op


@fx_leaf
class MaxPool3x3(nn.MaxPool2d):
    """Without a gradient to come it takes the maxima of shifted maps, which is faster than torch's kernel."""

    stride: int

    def __init__(self, stride: int = 1) -> None:
        super().__init__(3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if runs_by_rows(x) and not (x.requires_grad and torch.is_grad_enabled()):
            return _largest(_largest(x, 2, self.stride), 3, self.stride)
        return F.max_pool2d(x, 3, self.stride, padding=1)


def _largest(x: Tensor, dim: int, stride: int) -> Tensor:
    """The largest of three neighbours along a dimension, of which the first and the last place have only two."""
    size = x.shape[dim]
    count = (size + 1) // 2 if stride == 2 else size
    largest = _every(x, dim, 0, count, stride).contiguous(memory_format=layout_of(x))
    if largest.data_ptr() == x.data_ptr():
        largest = largest.clone()
    for start, first, number in ((1, 0, (size - 2) // stride + 1), (stride - 1, 1, count - 1)):
        part = largest.narrow(dim, first, number)
        torch.maximum(part, _every(x, dim, start, number, stride), out=part)
    return largest


def _every(x: Tensor, dim: int, start: int, count: int, step: int) -> Tensor:
    return x[(slice(None),) * dim + (slice(start, start + (count - 1) * step + 1, step),)]


@fx_leaf
class AvgPool3x3(nn.AvgPool2d):
    """The average over the pixels inside the image, as a depthwise convolution on the CPU."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__(3, stride, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        if runs_by_rows(x) and x.dtype == torch.float32:
            averaged: Tensor = _Average.apply(x, self.stride)
            return averaged
        return super().forward(x)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        ctx.shape, ctx.stride = x.shape, stride
        return _sums(x, stride).mul_(_share(*x.shape[2:], stride))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        if ctx.stride == 1:
            return _sums(gradient * _share(*ctx.shape[2:], 1), 1), None
        like = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
        steps = [3, 3], [2, 2], [1, 1]
        into_x: Tensor = torch.ops.aten.avg_pool2d_backward(gradient, like, *steps, False, False, None)
        return into_x, None


def _sums(x: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, x.new_ones(x.shape[1], 1, 3, 3), stride=stride, padding=1, groups=x.shape[1])


@lru_cache(maxsize=64)
def _share(height: int, width: int, stride: int) -> Tensor:
    """1 / number of pixels inside the image, for each place of the window."""
    with torch.inference_mode(False), torch.no_grad():
        ones = torch.ones(1, 1, height, width, dtype=torch.float32, device="cpu")
        return _sums(ones, stride).reciprocal()


def _pooling(pool: nn.Module, settings: OpSettings) -> nn.Module:
    return nn.Sequential(pool, BatchNorm2d(settings.channels, affine=False)) if settings.pooling_norm else pool


@register_op("max_pool_3x3")
def max_pool_3x3(settings: OpSettings) -> nn.Module:
    return _pooling(MaxPool3x3(settings.stride), settings)


@register_op("avg_pool_3x3")
def avg_pool_3x3(settings: OpSettings) -> nn.Module:
    """The average leaves out the padding."""
    return _pooling(AvgPool3x3(settings.stride), settings)
