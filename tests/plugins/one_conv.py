"""One convolution, to compare with."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from pydantic import Field
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.references import register_reference
from datanas.references.base import Reference
from datanas.spaces.base import Body, StemShape
from datanas.spaces.network_config import NetworkConfig


class OneConvBody(Body):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.out_channels = (channels,)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Any] | None = None) -> tuple[Tensor]:
        return (cast(Tensor, self.conv(stem[1])).relu(),)


@register_reference("one_conv")
class OneConv(Reference):
    name: ClassVar[str] = "one_conv"
    paper: ClassVar[str] = "Nobody: A convolution. Nowhere, 2026"
    note: ClassVar[str] = "one layer"
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1}

    class Network(NetworkConfig):
        channels: int = Field(8, ge=1)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Any) -> OneConvBody:
        shape = cast(StemShape, stem.shape)
        return OneConvBody(shape.channels[1], settings.channels)
