"""The convolutional cell space of Section 5: DARTS' cells, with any number of operations on an edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from datanas.codes.architecture import CONV_PRIMITIVES, Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCell, LiveCount, LiveStack, live_stack
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import ComponentConfig
from datanas.ops import NONE, OpSettings, operations
from datanas.spaces import register_space
from datanas.spaces.base import Costs, Space, StemShape
from datanas.spaces.conv_body import INPUTS, ConvBody, cell_kinds, dense_reductions, half_size
from datanas.spaces.network_config import ToweredConfig
from datanas.spaces.plans import (
    check_parts,
    conv_probe,
    feature_size,
    known_once,
    network_plan,
    operation_cost,
    require_known,
    supernet_plan,
)
from datanas.spaces.workload import CellWork, Workload


def _stem_shape(stem: nn.Module) -> StemShape:
    shape = getattr(stem, "shape", None)
    if not isinstance(shape, StemShape):
        raise ConfigError("space.name: conv_cell needs a task whose stem gives two feature maps")
    return shape


def _live_stack(architecture: Architecture, cells: int) -> LiveStack:
    return live_stack([architecture.cells[kind] for kind in cell_kinds(cells)])


@register_space("conv_cell")
class ConvCellSpace(Space):
    """Normal and reduction cells of two inputs, `nodes` - 3 searched nodes and one output (Section 5)."""

    class Config(ComponentConfig):
        name: Literal["conv_cell"] = "conv_cell"
        cells: int = Field(8, ge=3, description="cells of the supernet")
        channels: int = Field(16, ge=1, description="channels of its first cell")
        nodes: int = Field(7, ge=4, le=12, description="nodes of a cell: two inputs, the searched ones, the output")
        primitives: Annotated[tuple[str, ...], Field(min_length=2)] = CONV_PRIMITIVES

        @field_validator("primitives")
        @classmethod
        def known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            return known_once(names, operations)

    name: ClassVar[str] = "conv_cell"
    Network = ToweredConfig
    shallow: ClassVar[Mapping[str, Any]] = {"cells": 3}
    fewest_cells: ClassVar[int] = 3

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def width(self) -> int:
        return self.config.channels

    def groups(self) -> dict[str, ChoiceGroup]:
        targets = range(INPUTS, self.config.nodes - 1)
        edges = tuple((source, target) for target in targets for source in range(target))
        return {
            name: ChoiceGroup(name, edges, self.config.primitives, outputs=tuple(targets), inputs=INPUTS)
            for name in ("normal", "reduce")
        }

    @classmethod
    def first_sizes(cls, *, has_many: bool) -> dict[str, dict[str, Any]]:
        channels = 16 if has_many else 8
        train = {"channels": 2 * channels, "cells": 5, "auxiliary": False, "drop_path": 0.0}
        return {"space": {"channels": channels, "cells": 5}, "train": train}

    def supernet_body(self, stem: nn.Module) -> ConvBody:
        return self.partial_body(stem, parts=1)

    def partial_body(self, stem: nn.Module, parts: int) -> ConvBody:
        check_parts(self.config.channels, parts)
        plans = {name: supernet_plan(group, parts) for name, group in self.groups().items()}
        settings = OpSettings(self.config.channels, affine=False, pooling_norm=True)
        return ConvBody([plans[kind] for kind in cell_kinds(self.config.cells)], _stem_shape(stem), settings)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: ToweredConfig) -> ConvBody:
        missing = {"normal", "reduce"} - set(architecture.cells)
        if missing:
            raise ArchitectureError(f"cells: {', '.join(sorted(missing))} is missing; a conv_cell network needs both")
        for name in ("normal", "reduce"):
            require_known(architecture, name)
        kinds = cell_kinds(settings.cells)
        stack = _live_stack(architecture, settings.cells) if settings.prune else None
        plans = (
            [
                None if part is None else network_plan(architecture, kind, part)
                for kind, part in zip(kinds, stack.cells, strict=True)
            ]
            if stack
            else [network_plan(architecture, kind) for kind in kinds]
        )
        built = OpSettings(settings.channels, pooling_norm=settings.pooling_norm)
        body = ConvBody(plans, _stem_shape(stem), built, tap=settings.auxiliary)
        if stack is not None:
            body.reads = stack.reads[0], stack.reads[1]
        return body

    @classmethod
    def count_live(cls, architecture: Architecture, settings: ToweredConfig) -> LiveCount:
        return _live_stack(architecture, settings.cells).count

    def identities(self, group: str) -> frozenset[str]:
        """None in a reduction cell, where the identity of an input is a factorised reduction."""
        return frozenset({"skip_connect"} & set(self.config.primitives) if group == "normal" else ())

    def parameter_free(self, group: str) -> frozenset[str]:
        stride = 1 if group == "normal" else 2
        return frozenset(name for name in self.config.primitives if operation_cost(name, 2, stride, (4, 4))[0] == 0)

    def costs(self, stem: nn.Module, example: Tensor) -> dict[str, Costs]:
        groups = self.groups()
        parameters = {name: np.zeros(group.shape) for name, group in groups.items()}
        macs = {name: np.zeros(group.shape) for name, group in groups.items()}
        for cell in self.work(stem, example):
            for edge, op in np.ndindex(*groups[cell.group].shape):
                load = cell.table[edge][op]
                if load is None:
                    continue
                cost = operation_cost(load.primitive, load.channels, load.stride, (load.size[0], load.size[1]))
                parameters[cell.group][edge, op] += cost[0]
                macs[cell.group][edge, op] += load.maps * cost[1]
        return {name: Costs(parameters[name], macs[name]) for name in groups}

    def at_size(self, channels: int, cells: int) -> ConvCellSpace:
        return ConvCellSpace(self.config.model_copy(update={"channels": channels, "cells": cells}))

    def work(self, stem: nn.Module, example: Tensor) -> list[CellWork]:
        groups, cells = self.groups(), []
        height, breadth = feature_size(stem, example)
        width, maps = self.config.channels, 1
        dense = dense_reductions(self.config.cells, _stem_shape(stem).dense)
        for index, kind in enumerate(cell_kinds(self.config.cells)):
            maps = 4 * maps if index in dense else maps
            before = after = (height, breadth)
            if kind == "reduce":
                width, after = 2 * width, half_size(height, breadth)
            rows = []
            for source, _ in groups[kind].edges:
                stride, size = (2, before) if kind == "reduce" and source < INPUTS else (1, after)
                rows.append(
                    tuple(
                        None if primitive == NONE else Workload(primitive, width, stride, size, maps)
                        for primitive in self.config.primitives
                    )
                )
            cells.append(CellWork(kind, tuple(rows)))
            height, breadth = after
        return cells

    def live_cells(self, architecture: Architecture) -> tuple[LiveCell | None, ...]:
        return _live_stack(architecture, self.config.cells).cells

    def probe(
        self, workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
    ) -> Callable[[], object]:
        return conv_probe(workload, batch, device, pooling_norm=pooling_norm)
