"""The convolutional cell space of Section 5: DARTS' cells, with any number of operations on an edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ArchitectureError
from datanas.spaces import register_space
from datanas.spaces.conv_body import cell_kinds
from datanas.spaces.conv_space import ConvConfig, ConvSpace


@register_space("conv_cell")
class ConvCellSpace(ConvSpace):
    """Normal and reduction cells of two inputs, `nodes` - 3 searched nodes and one output (Section 5)."""

    class Config(ConvConfig):
        name: Literal["conv_cell"] = "conv_cell"

    name: ClassVar[str] = "conv_cell"
    shallow: ClassVar[Mapping[str, Any]] = {"cells": 3}

    def __init__(self, config: Config) -> None:
        self.config = config

    def groups(self) -> dict[str, ChoiceGroup]:
        return {name: self.cell_group(name) for name in ("normal", "reduce")}

    def cell_groups(self) -> tuple[str, ...]:
        return cell_kinds(self.config.cells)

    @classmethod
    def network_groups(cls, architecture: Architecture, cells: int) -> tuple[str, ...]:
        missing = {"normal", "reduce"} - set(architecture.cells)
        if missing:
            raise ArchitectureError(f"cells: {', '.join(sorted(missing))} is missing; a conv_cell network needs both")
        return cell_kinds(cells)

    def at_size(self, channels: int, cells: int) -> ConvCellSpace:
        return ConvCellSpace(self.config.model_copy(update={"channels": channels, "cells": cells}))
