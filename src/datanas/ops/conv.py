"""Convolutions in the ReLU-Conv-BN order of Section 5: separable, dilated and factorised."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.bare import geometry
from datanas.kernels.layout import join_channels, layout_of
from datanas.kernels.norm import BatchNorm2d, EndsInNorm
from datanas.kernels.switch import first_order, runs_by_rows
from datanas.ops import OpSettings, register_op
from datanas.ops.separable import DepthwiseSeparable, SeparableTwice


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution without bias that reads every `stride`-th pixel.

    What is not read is left out beforehand. torch's own kernel for a stride writes beyond its memory on processors with
    AVX2 alone, in the weight gradient of channels-last maps of fewer than eight channels (torch 2.14, oneDNN's
    `jit_1x1:avx2`): the process ends somewhere else.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(subsampled(x, self.stride[0]), self.weight, self.bias)


def subsampled(x: Tensor, stride: int) -> Tensor:
    """Every `stride`-th pixel of feature maps, in their layout."""
    return x if stride == 1 else x[:, :, ::stride, ::stride].contiguous(memory_format=layout_of(x))


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    """Without bias, and of the size of what comes in at stride 1."""
    if kernel == 1:
        return PointwiseConv(inputs, outputs, stride)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class ReLUConvBN(EndsInNorm, nn.Sequential):
    """ReLU, a convolution without bias that keeps the size at stride 1, batch norm.

    Args:
        rectified: what comes in has been through a ReLU, so that its own would change nothing and is left out.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        affine: bool = True,
        rectified: bool = False,
    ) -> None:
        conv = convolution(inputs, outputs, kernel, stride)
        super().__init__(nn.ReLU(), conv, BatchNorm2d(outputs, affine=affine))
        self._rectified = rectified
        self._made = geometry(self[1])

    def is_as_made(self) -> bool:
        relu, conv, *rest = self._modules.values()
        return len(rest) == 1 and type(relu) is nn.ReLU and geometry(conv) == self._made

    def features(self, x: Tensor, rectified: Tensor | None = None) -> Tensor:
        relu, conv = self._modules["0"], cast(nn.Conv2d, self._modules["1"])
        if self._rectified:
            rectified = x
        if runs_by_rows(x) and rectified is None:
            return rectified_conv(x, conv.weight, conv.stride[0])
        convolved: Tensor = conv(cast(nn.ReLU, relu)(x) if rectified is None else rectified)
        return convolved


class FactorizedReduce(EndsInNorm, nn.Module):
    """Half the size by two 1x1 convolutions of stride 2, the second one pixel further on; their outputs side by side.

    An odd size gets a row or column of zeros at its end, so that both halves have ceil(size / 2) pixels. What the two
    read is gathered side by side first, and both convolutions are one.

    Args:
        rectified: as for `ReLUConvBN`.
    """

    def __init__(self, inputs: int, outputs: int, *, affine: bool = True, rectified: bool = False) -> None:
        super().__init__()
        self._rectified = rectified
        self.relu = nn.ReLU()
        self.even = PointwiseConv(inputs, outputs // 2, stride=2)
        self.odd = PointwiseConv(inputs, outputs - outputs // 2, stride=2)
        self.norm = BatchNorm2d(outputs, affine=affine)
        self._made = geometry(self.even), geometry(self.odd)

    def is_as_made(self) -> bool:
        return type(self.relu) is nn.ReLU and (geometry(self.even), geometry(self.odd)) == self._made

    def in_turn(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self._halved(self.relu(x))))

    def _halved(self, x: Tensor) -> Tensor:
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        return join_channels([self.even(x), self.odd(shifted)])

    def features(self, x: Tensor, rectified: Tensor | None = None) -> Tensor:
        if not runs_by_rows(x):
            return self._halved(x if self._rectified else self.relu(x))
        pixels: Tensor = _Diagonals.apply(x)
        even, odd = self.even.weight, self.odd.weight
        weight = torch.cat([F.pad(even, (0, 0, 0, 0, 0, even.shape[1])), F.pad(odd, (0, 0, 0, 0, odd.shape[1], 0))])
        return F.conv2d(pixels, weight) if self._rectified else rectified_conv(pixels, weight)


class _Diagonals(torch.autograd.Function):
    """(batch, 2 channels, half, half): the pixels of even row and column, and beside them those of odd ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape = x.shape
        even, odd = x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]
        shape = batch, 2 * channels, *even.shape[2:]
        diagonals = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
        diagonals[:, :channels] = even
        if height % 2 or width % 2:
            diagonals[:, channels:] = 0
        diagonals[:, channels:, : height // 2, : width // 2] = odd
        return diagonals

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0]
        _, channels, height, width = ctx.shape
        layout = layout_of(gradient)
        result = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout).zero_()
        result[:, :, ::2, ::2] = gradient[:, :channels]
        result[:, :, 1::2, 1::2] = gradient[:, channels:, : height // 2, : width // 2]
        return result


def rectified_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """The convolution of relu(x) with a square kernel, padded to keep the size at stride 1; keeps `x`, not relu(x)."""
    if weight.shape[2] == 1:
        x, stride = subsampled(x, stride), 1
    convolved: Tensor = _RectifiedConv.apply(x, weight, stride)
    return convolved


class _RectifiedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x.relu(), weight, stride=stride, padding=weight.shape[2] // 2)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, _ = ctx.needs_input_grad
        into_x, into_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].contiguous(memory_format=torch.channels_last),
            x.relu() if wants_weight else x,
            weight,
            None,
            [ctx.stride] * 2,
            [weight.shape[2] // 2] * 2,
            [1, 1],
            False,
            [0, 0],
            1,
            [wants_x, wants_weight, False],
        )
        return torch.ops.aten.threshold_backward(into_x, x, 0) if wants_x else None, into_weight, None


@register_op("sep_conv_3x3")
def sep_conv_3x3(settings: OpSettings) -> nn.Module:
    return SeparableTwice(settings, 3)


@register_op("sep_conv_5x5")
def sep_conv_5x5(settings: OpSettings) -> nn.Module:
    return SeparableTwice(settings, 5)


@register_op("sep_conv_7x7")
def sep_conv_7x7(settings: OpSettings) -> nn.Module:
    return SeparableTwice(settings, 7)


@register_op("dil_conv_3x3")
def dil_conv_3x3(settings: OpSettings) -> nn.Module:
    return DepthwiseSeparable(settings.channels, 3, settings.stride, dilation=2, affine=settings.affine)


@register_op("dil_conv_5x5")
def dil_conv_5x5(settings: OpSettings) -> nn.Module:
    return DepthwiseSeparable(settings.channels, 5, settings.stride, dilation=2, affine=settings.affine)


@register_op("conv_1x1")
def conv_1x1(settings: OpSettings) -> nn.Module:
    return ReLUConvBN(settings.channels, settings.channels, 1, settings.stride, affine=settings.affine)


@register_op("conv_3x3")
def conv_3x3(settings: OpSettings) -> nn.Module:
    return ReLUConvBN(settings.channels, settings.channels, 3, settings.stride, affine=settings.affine)


@register_op("nor_conv_1x1")
def nor_conv_1x1(settings: OpSettings) -> nn.Module:
    """NAS-Bench-201's name for `conv_1x1`."""
    return conv_1x1(settings)


@register_op("nor_conv_3x3")
def nor_conv_3x3(settings: OpSettings) -> nn.Module:
    """NAS-Bench-201's name for `conv_3x3`."""
    return conv_3x3(settings)


@register_op("conv_7x1_1x7")
def conv_7x1_1x7(settings: OpSettings) -> nn.Module:
    """A 7x7 convolution as a row and a column, as NASNet and AmoebaNet use it."""
    channels, stride = settings.channels, settings.stride
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        BatchNorm2d(channels, affine=settings.affine),
    )
