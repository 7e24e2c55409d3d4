"""The embedding network of prototypical networks (Snell, Swersky and Zemel, NeurIPS 2017), to compare cells with."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.norm import BatchNorm2d
from datanas.references import register_reference
from datanas.references.base import Reference
from datanas.spaces.base import Body, StemShape
from datanas.spaces.network_config import NetworkConfig

WIDTH, BLOCKS = 64, 4


@fx_leaf
class Block(nn.Module):
    """A 3x3 convolution, batch norm, ReLU and max-pooling by 2; a map one pixel wide or high is not pooled."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = cast(Tensor, self.norm(self.conv(x))).relu()
        return F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x


class Conv4Body(Body):
    """Four such blocks of one width: 64 channels of 5x5 for an image of 84x84."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        widths = [in_channels, *BLOCKS * [channels]]
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(widths)))
        self.out_channels = (channels,)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Any] | None = None) -> tuple[Tensor, ...]:
        """One feature map, (batch, channels, height / 16, width / 16)."""
        return (cast(Tensor, self.blocks(stem[1])),)


@register_reference("conv4")
class Conv4(Reference):
    """Four blocks; the image itself goes in, and the last features are the embedding."""

    class Network(NetworkConfig):
        channels: int = Field(WIDTH, ge=1, description="channels of each block")

    name: ClassVar[str] = "conv4"
    paper: ClassVar[str] = (
        "J. Snell, K. Swersky, R. S. Zemel: Prototypical Networks for Few-shot Learning. NeurIPS 2017"
    )
    note: ClassVar[str] = "four blocks; a network to compare few-shot cells with"
    task: ClassVar[str] = "fewshot"
    fixed: ClassVar[Mapping[str, Any]] = {"cells": BLOCKS}
    defaults: ClassVar[Mapping[str, Any]] = {"task": {"name": "fewshot", "stem": "none"}}
    settings: ClassVar[Mapping[str, Any]] = defaults

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Network) -> Conv4Body:
        """As in `NetworkBuilder`. It reads the image itself, so it follows no stem."""
        shape = getattr(stem, "shape", None)
        if not isinstance(shape, StemShape) or any(True for _ in stem.parameters()):
            raise ConfigError("task.stem: conv4 reads the image itself; take task fewshot with --task.stem none")
        return Conv4Body(shape.channels[1], settings.channels)
