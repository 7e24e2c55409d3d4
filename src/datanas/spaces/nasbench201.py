"""The topology space of NAS-Bench-201 (Dong and Yang, ICLR 2020): one cell of four nodes, repeated in three stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.benchmark_text import BENCHMARK_PRIMITIVES
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCell, LiveCount, live_cell, live_stack
from datanas.codes.wiring import wiring_key
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import ComponentConfig
from datanas.kernels.gates import Gates
from datanas.kernels.norm import BatchNorm2d
from datanas.ops import NONE, OpSettings
from datanas.ops.conv import ReLUConvBN
from datanas.spaces import register_space
from datanas.spaces.base import Body, Costs, Space, StemShape
from datanas.spaces.network_config import StackConfig
from datanas.spaces.plans import (
    CellNodes,
    CellPlan,
    check_parts,
    conv_probe,
    feature_size,
    network_plan,
    operation_cost,
    supernet_plan,
)
from datanas.spaces.workload import CellWork, Workload

STAGES = 3
IDENTITIES = frozenset({"skip_connect"})


class BenchmarkCell(nn.Module):
    """One cell: its input is node 0, its output the last node."""

    def __init__(self, plan: CellPlan, settings: OpSettings) -> None:
        super().__init__()
        self.nodes = CellNodes(plan, settings)
        (self._output,) = plan.outputs

    def forward(self, x: Tensor, gates: Gates | None = None) -> Tensor:
        return cast(Tensor, self.nodes([x], gates)[self._output])


class ResidualBlock(nn.Module):
    """Twice the width, half the size: two 3x3 convolutions beside an average and a 1x1 convolution.

    An odd size is rounded up, which the benchmark's block cannot do; at even sizes the two are the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(channels, 2 * channels, 3, stride=2)
        self.conv_b = ReLUConvBN(2 * channels, 2 * channels, 3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(channels, 2 * channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return total


class BenchmarkBody(Body):
    """Three stages of cells with a residual block before the second and the third, then batch norm and ReLU.

    Args:
        plan: what each cell is built from; None where it leads nowhere, and nothing is built but the last batch norm.
        cells: in each stage.
        settings: the first cell's width, and how the cells' operations are built.
    """

    def __init__(self, plan: CellPlan | None, cells: int, settings: OpSettings) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.blocks = nn.ModuleList()
        if plan is None:
            settings = replace(settings, channels=settings.channels * 2 ** (STAGES - 1))
        for stage in range(STAGES if plan is not None else 0):
            assert plan is not None
            if stage > 0:
                self.blocks.append(ResidualBlock(settings.channels))
                settings = replace(settings, channels=2 * settings.channels)
            self.stages.append(nn.ModuleList(BenchmarkCell(plan, settings) for _ in range(cells)))
        self.norm = BatchNorm2d(settings.channels)
        self.out_channels = (settings.channels,)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None) -> tuple[Tensor]:
        """One feature map (batch, 4 channels, height / 4, width / 4)."""
        _, x = stem
        if not self.stages:
            height, width = (-(-side // 2 ** (STAGES - 1)) for side in x.shape[2:])
            x = x.new_zeros(()).expand(x.shape[0], self.norm.num_features, height, width)
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = self.blocks[index - 1](x)
            for cell in stage:  # type: ignore[attr-defined]
                x = cell(x, gates["cell"] if gates is not None else None)
        return (self.norm(x).relu(),)


def _check_stem(stem: nn.Module, channels: int) -> None:
    shape = getattr(stem, "shape", None)
    if not isinstance(shape, StemShape) or shape.halved or shape.channels[1] != channels or shape.dense:
        raise ConfigError(
            "task.stem: nasbench201 needs a stem of its first cell's width, such as plain, and cannot "
            "keep the resolution"
        )


def _check_cells(cells: int) -> None:
    if cells < STAGES or cells % STAGES:
        raise ConfigError(f"cells: {cells} cannot be shared among three equal stages; take a multiple of {STAGES}")


@register_space("nasbench201")
class NASBench201Space(Space):
    """The benchmark's one cell, whose every choice has a known accuracy."""

    class Config(ComponentConfig):
        name: Literal["nasbench201"] = "nasbench201"
        cells_per_stage: int = Field(
            1, ge=1, description="cells in each of the supernet's three stages; N of the paper"
        )
        channels: int = Field(16, ge=1, description="channels of its first stage; they double with each stage")

    class Network(StackConfig):
        """`cells` counts those of all stages; there is no auxiliary tower."""

        channels: int = Field(16, ge=1, description="width of the first stage")
        cells: int = Field(15, ge=1, description="in all three stages together")

    name: ClassVar[str] = "nasbench201"
    shallow: ClassVar[Mapping[str, Any]] = {"cells_per_stage": 1}
    fewest_cells: ClassVar[int] = STAGES
    defaults: ClassVar[Mapping[str, Any]] = {
        "task": {"name": "classification", "stem": "plain"},
        "train": {"channels": 36, "cells": 20},  # as recipes of version 0.1 that leave them out mean
    }
    scores_help: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def width(self) -> int:
        return self.config.channels

    def groups(self) -> dict[str, ChoiceGroup]:
        edges = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
        return {"cell": ChoiceGroup("cell", edges, BENCHMARK_PRIMITIVES, outputs=(3,), inputs=1, single=True)}

    @classmethod
    def first_sizes(cls, *, has_many: bool) -> dict[str, dict[str, Any]]:
        train = {"channels": 16, "cells": STAGES, "drop_path": 0.0}
        return {"space": {"channels": 8, "cells_per_stage": 1}, "train": train}

    def supernet_body(self, stem: nn.Module) -> BenchmarkBody:
        return self.partial_body(stem, parts=1)

    def partial_body(self, stem: nn.Module, parts: int) -> BenchmarkBody:
        check_parts(self.config.channels, parts)
        _check_stem(stem, self.config.channels)
        settings = OpSettings(self.config.channels, affine=False)
        return BenchmarkBody(supernet_plan(self.groups()["cell"], parts), self.config.cells_per_stage, settings)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Network) -> BenchmarkBody:
        """As in `Space`. The benchmark's own networks, whose sizes its tables give, were not pruned."""
        cell = architecture.cells.get("cell")
        if cell is None or cell.inputs != 1 or len(cell.outputs) != 1:
            raise ArchitectureError(
                "cells: a nasbench201 network needs one named 'cell', with one input and one output"
            )
        cells = settings.cells
        _check_cells(cells)
        _check_stem(stem, settings.channels)
        live = live_cell(cell) if settings.prune else None
        plan = None if live is not None and not live.outputs else network_plan(architecture, "cell", live)
        built = OpSettings(settings.channels, pooling_norm=settings.pooling_norm)
        return BenchmarkBody(plan, cells // STAGES, built)

    @classmethod
    def count_live(cls, architecture: Architecture, settings: Network) -> LiveCount:
        return live_stack([architecture.cells["cell"]] * settings.cells).count

    @classmethod
    def network_key(cls, architecture: Architecture) -> tuple[Any, ...]:
        """As in `NetworkBuilder`, whatever its nodes are called: a skip connection changes nothing here."""
        return wiring_key(architecture.cells["cell"], architecture.weights("cell"), IDENTITIES)

    def identities(self, group: str) -> frozenset[str]:
        return IDENTITIES

    def parameter_free(self, group: str) -> frozenset[str]:
        return frozenset(name for name in BENCHMARK_PRIMITIVES if operation_cost(name, 2, 1, (4, 4))[0] == 0)

    def costs(self, stem: nn.Module, example: Tensor) -> dict[str, Costs]:
        group = self.groups()["cell"]
        parameters, macs = np.zeros(group.shape), np.zeros(group.shape)
        for cell in self.work(stem, example):
            for op, load in enumerate(cell.table[0]):  # the same on every edge
                if load is not None:
                    cost = operation_cost(load.primitive, load.channels, 1, (load.size[0], load.size[1]))
                    parameters[:, op] += cost[0]
                    macs[:, op] += cost[1]
        return {"cell": Costs(parameters, macs)}

    def at_size(self, channels: int, cells: int) -> NASBench201Space:
        _check_cells(cells)
        return NASBench201Space(
            self.config.model_copy(update={"channels": channels, "cells_per_stage": cells // STAGES})
        )

    def work(self, stem: nn.Module, example: Tensor) -> list[CellWork]:
        group, cells = self.groups()["cell"], []
        height, breadth = feature_size(stem, example)
        for stage in range(STAGES):
            width = self.config.channels * 2**stage
            row = tuple(
                None if primitive == NONE else Workload(primitive, width, 1, (height, breadth))
                for primitive in group.primitives
            )
            cells += self.config.cells_per_stage * [CellWork("cell", (row,) * len(group.edges))]
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
        return cells

    def live_cells(self, architecture: Architecture) -> list[LiveCell | None]:
        live = live_cell(architecture.cells["cell"])
        return STAGES * self.config.cells_per_stage * [live if live.outputs else None]

    def probe(
        self, workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
    ) -> Callable[[], object]:
        return conv_probe(workload, batch, device, pooling_norm=pooling_norm)
