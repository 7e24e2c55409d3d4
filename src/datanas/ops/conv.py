"""Convolutions in the ReLU-Conv-BN order of Section 5: separable, dilated and factorised."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from datanas.ops import OpSettings, register_op
from datanas.ops.depthwise import DepthwiseConv
from datanas.ops.layout import join_channels


class ReLUConvBN(nn.Sequential):
    """ReLU, a convolution without bias that keeps the size at stride 1, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, affine=affine),
        )


class DepthwiseSeparable(nn.Sequential):
    """ReLU, a depthwise convolution, a pointwise one, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, *, dilation: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            DepthwiseConv(channels, kernel, stride, dilation),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class FactorizedReduce(nn.Module):
    """Half the size by two 1x1 convolutions of stride 2, the second one pixel further on; their outputs side by side.

    An odd size gets a row or column of zeros at its end, so that both halves have ceil(size / 2) pixels.
    """

    def __init__(self, inputs: int, outputs: int, *, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        joined: Tensor = self.norm(join_channels([self.even(x), self.odd(shifted)]))
        return joined


def _separable(settings: OpSettings, kernel: int) -> nn.Module:
    """A separable convolution is applied twice; the first application has the stride."""
    return nn.Sequential(
        DepthwiseSeparable(settings.channels, kernel, settings.stride, affine=settings.affine),
        DepthwiseSeparable(settings.channels, kernel, 1, affine=settings.affine),
    )


@register_op("sep_conv_3x3")
def sep_conv_3x3(settings: OpSettings) -> nn.Module:
    return _separable(settings, 3)


@register_op("sep_conv_5x5")
def sep_conv_5x5(settings: OpSettings) -> nn.Module:
    return _separable(settings, 5)


@register_op("sep_conv_7x7")
def sep_conv_7x7(settings: OpSettings) -> nn.Module:
    return _separable(settings, 7)


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


@register_op("conv_7x1_1x7")
def conv_7x1_1x7(settings: OpSettings) -> nn.Module:
    """A 7x7 convolution as a row and a column, as NASNet and AmoebaNet use it."""
    channels, stride = settings.channels, settings.stride
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=settings.affine),
    )
