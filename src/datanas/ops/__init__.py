"""Candidate operations. One file a family; `@register_op(name)` enters a factory `OpSettings -> nn.Module`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datanas.codes.choice_group import NONE as NONE
from datanas.core.registry import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OpSettings:
    """What an operation is built for.

    Attributes:
        channels: channels of its input, and of its output where `out_channels` says nothing.
        stride: 1, or 2 on the edges that leave the input nodes of a reduction cell.
        affine: whether batch norm learns a scale and a shift; off while searching.
        pooling_norm: whether pooling is followed by batch norm without scale and shift; on while searching.
        out_channels: channels of its output, of operations that can change them (`ops/inverted.py`); None for as many.
    """

    channels: int
    stride: int = 1
    affine: bool = True
    pooling_norm: bool = False
    out_channels: int | None = None

    @property
    def width_out(self) -> int:
        """Channels of the output."""
        return self.channels if self.out_channels is None else self.out_channels

    @property
    def keeps_shape(self) -> bool:
        """Whether the output is of the input's shape."""
        return self.stride == 1 and self.width_out == self.channels


OpFactory = Callable[[OpSettings], "nn.Module"]
operations: Registry[OpFactory] = Registry("operation", "datanas.ops")
register_op = operations.register
