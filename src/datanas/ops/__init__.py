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
        channels: channels of its input and of its output.
        stride: 1, or 2 on the edges that leave the input nodes of a reduction cell.
        affine: whether batch norm learns a scale and a shift; off while searching.
        pooling_norm: whether pooling is followed by batch norm without scale and shift; on while searching.
    """

    channels: int
    stride: int = 1
    affine: bool = True
    pooling_norm: bool = False


OpFactory = Callable[[OpSettings], "nn.Module"]
operations: Registry[OpFactory] = Registry("operation", "datanas.ops")
register_op = operations.register
