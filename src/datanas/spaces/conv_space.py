"""What spaces of stacks of convolutional cells share, whichever cells choose together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from datanas.codes.architecture import CONV_PRIMITIVES, Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCell, LiveCount, LiveStack, live_stack
from datanas.core.errors import ConfigError
from datanas.core.settings import ComponentConfig
from datanas.ops import NONE, OpSettings, operations
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


class ConvConfig(ComponentConfig):
    """The settings of a supernet that is a stack of cells."""

    cells: int = Field(8, ge=3, description="cells of the supernet")
    channels: int = Field(16, ge=1, description="channels of its first cell")
    nodes: int = Field(7, ge=4, le=12, description="nodes of a cell: two inputs, the searched ones, the output")
    primitives: Annotated[tuple[str, ...], Field(min_length=2)] = CONV_PRIMITIVES

    @field_validator("primitives")
    @classmethod
    def known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return known_once(names, operations)


class ConvSpace(Space):
    """A stack of normal cells with reduction cells at 1/3 and 2/3 of its depth, each of the choice group that it names.

    A space of this kind defines `groups`, whose names begin with the kind of their cells, and says to which group each
    cell of its supernet and of a network belongs.
    """

    Network = ToweredConfig
    fewest_cells: ClassVar[int] = 3
    config: Any

    @abstractmethod
    def cell_groups(self) -> tuple[str, ...]:
        """The choice group of each cell of the supernet, in order."""

    @classmethod
    @abstractmethod
    def network_groups(cls, architecture: Architecture, cells: int) -> tuple[str, ...]:
        """The choice group of each cell of a network of so many cells.

        Raises:
            ArchitectureError: the architecture lacks one.
        """

    @property
    def width(self) -> int:
        return int(self.config.channels)

    @classmethod
    def first_sizes(cls, *, has_many: bool) -> dict[str, dict[str, Any]]:
        channels = 16 if has_many else 8
        train = {"channels": 2 * channels, "cells": 5, "auxiliary": False, "drop_path": 0.0}
        return {"space": {"channels": channels, "cells": 5}, "train": train}

    def cell_group(self, name: str, depth: float | None = None) -> ChoiceGroup:
        """The choice group of this name: every operation on every edge of a cell."""
        targets = range(INPUTS, self.config.nodes - 1)
        edges = tuple((source, target) for target in targets for source in range(target))
        return ChoiceGroup(name, edges, self.config.primitives, outputs=tuple(targets), inputs=INPUTS, depth=depth)

    def supernet_body(self, stem: nn.Module) -> ConvBody:
        return self.partial_body(stem, parts=1)

    def partial_body(self, stem: nn.Module, parts: int) -> ConvBody:
        check_parts(self.config.channels, parts)
        plans = {name: supernet_plan(group, parts) for name, group in self.groups().items()}
        settings = OpSettings(self.config.channels, affine=False, pooling_norm=True)
        groups = self.cell_groups()
        return ConvBody([plans[group] for group in groups], self._stem_shape(stem), settings, groups=groups)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: ToweredConfig) -> ConvBody:
        groups = cls.network_groups(architecture, settings.cells)
        for name in dict.fromkeys(groups):
            require_known(architecture, name)
        stack = cls._live_stack(architecture, settings.cells) if settings.prune else None
        plans = (
            [
                None if part is None else network_plan(architecture, group, part)
                for group, part in zip(groups, stack.cells, strict=True)
            ]
            if stack
            else [network_plan(architecture, group) for group in groups]
        )
        built = OpSettings(settings.channels, pooling_norm=settings.pooling_norm)
        body = ConvBody(plans, cls._stem_shape(stem), built, tap=settings.auxiliary)
        if stack is not None:
            body.reads = stack.reads[0], stack.reads[1]
        return body

    @classmethod
    def count_live(cls, architecture: Architecture, settings: ToweredConfig) -> LiveCount:
        return cls._live_stack(architecture, settings.cells).count

    @classmethod
    def _live_stack(cls, architecture: Architecture, cells: int) -> LiveStack:
        return live_stack([architecture.cells[group] for group in cls.network_groups(architecture, cells)])

    @classmethod
    def _stem_shape(cls, stem: nn.Module) -> StemShape:
        shape = getattr(stem, "shape", None)
        if not isinstance(shape, StemShape):
            raise ConfigError(f"space.name: {cls.name} needs a task whose stem gives two feature maps")
        return shape

    def identities(self, group: str) -> frozenset[str]:
        """None in a reduction cell, where the identity of an input is a factorised reduction."""
        return frozenset({"skip_connect"} & set(self.config.primitives) if group.startswith("normal") else ())

    def parameter_free(self, group: str) -> frozenset[str]:
        stride = 1 if group.startswith("normal") else 2
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

    def work(self, stem: nn.Module, example: Tensor) -> list[CellWork]:
        groups, works = self.groups(), []
        names = self.cell_groups()
        height, breadth = feature_size(stem, example)
        width, maps = self.config.channels, 1
        dense = dense_reductions(len(names), self._stem_shape(stem).dense)
        for index, (name, kind) in enumerate(zip(names, cell_kinds(len(names)), strict=True)):
            maps = 4 * maps if index in dense else maps
            before = after = (height, breadth)
            if kind == "reduce":
                width, after = 2 * width, half_size(height, breadth)
            rows = []
            for source, _ in groups[name].edges:
                stride, size = (2, before) if kind == "reduce" and source < INPUTS else (1, after)
                rows.append(
                    tuple(
                        None if primitive == NONE else Workload(primitive, width, stride, size, maps)
                        for primitive in self.config.primitives
                    )
                )
            works.append(CellWork(name, tuple(rows)))
            height, breadth = after
        return works

    def live_cells(self, architecture: Architecture) -> tuple[LiveCell | None, ...]:
        return self._live_stack(architecture, len(self.cell_groups())).cells

    def probe(
        self, workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
    ) -> Callable[[], object]:
        return conv_probe(workload, batch, device, pooling_norm=pooling_norm)
