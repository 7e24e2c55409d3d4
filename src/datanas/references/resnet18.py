"""ResNet-18 (He et al., CVPR 2016), built as a network to compare searched cells with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from pydantic import Field
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.kernels.norm import BatchNorm2d
from datanas.ops.conv import convolution
from datanas.references import register_reference
from datanas.references.base import Reference
from datanas.spaces.base import Body, StemShape
from datanas.spaces.network_config import NetworkConfig

BLOCKS = 8


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input, which a 1x1 convolution brings to their shape."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv_bn(in_channels, channels, 3, stride), nn.ReLU())
        self.second = nn.Sequential(*_conv_bn(channels, channels, 3, 1))
        keeps_shape = in_channels == channels and stride == 1
        self.shortcut = nn.Identity() if keeps_shape else nn.Sequential(*_conv_bn(in_channels, channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.second(self.first(x)) + self.shortcut(x)).relu()


def _conv_bn(in_channels: int, channels: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = convolution(in_channels, channels, kernel, stride)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, BatchNorm2d(channels)


class ResNet18Body(Body):
    """Four stages of two blocks; each doubles the width of the one before, and all but the first halve the size.

    Behind a stem that divides the image by eight, twice as much as that of the paper, the second stage keeps the size,
    so that the last features are a 32nd as large as the image, as they are there and in a network of cells.
    """

    def __init__(self, stem: StemShape, channels: int) -> None:
        super().__init__()
        strides = (1, 1, 2, 2) if stem.halved else (1, 2, 2, 2)
        blocks: list[nn.Module] = []
        before = stem.channels[1]
        for stage, stride in enumerate(strides):
            width = channels * 2**stage
            blocks += [BasicBlock(before, width, stride), BasicBlock(width, width, 1)]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.out_channels = (before,)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Any] | None = None) -> tuple[Tensor, ...]:
        """One feature map of 8 times the first stage's channels."""
        return (cast(Tensor, self.blocks(stem[1])),)


@register_reference("resnet18")
class ResNet18(Reference):
    """Eight blocks in four stages."""

    class Network(NetworkConfig):
        channels: int = Field(64, ge=1, description="channels of the first stage")

    name: ClassVar[str] = "resnet18"
    paper: ClassVar[str] = "K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition. CVPR 2016"
    note: ClassVar[str] = "eight blocks; a network to compare convolutional cells with"
    fixed: ClassVar[Mapping[str, Any]] = {"cells": BLOCKS}

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Network) -> ResNet18Body:
        shape = getattr(stem, "shape", None)
        if not isinstance(shape, StemShape) or shape.dense:
            raise ConfigError("space.name: resnet18 needs a task whose stem gives two feature maps, none of them dense")
        return ResNet18Body(shape, settings.channels)
