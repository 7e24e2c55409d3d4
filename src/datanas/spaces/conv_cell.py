"""The convolutional cell space of Section 5: DARTS' cells, with any number of operations on an edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor, nn

from datanas.architecture import CONV_PRIMITIVES, Architecture
from datanas.config import ComponentConfig
from datanas.errors import ArchitectureError, ConfigError, nearest
from datanas.ops import OpSettings, operations
from datanas.ops.conv import FactorizedReduce, ReLUConvBN
from datanas.ops.gates import Gates
from datanas.ops.layout import join_channels
from datanas.ops.shifts import interleaved, shifted
from datanas.spaces import register_space
from datanas.spaces.base import Body, ChoiceGroup, Costs, Space, StemShape
from datanas.spaces.plans import (
    CellNodes,
    CellPlan,
    check_parts,
    feature_size,
    network_plan,
    operation_cost,
    supernet_plan,
)

INPUTS = 2


@dataclass(frozen=True)
class CellInput:
    """What a cell reads: how many channels, and whether they are the output of a ReLU."""

    channels: int
    rectified: bool = False


class ConvCell(nn.Module):
    """One cell: two inputs brought to its width, nodes in order, the output nodes side by side.

    Args:
        plan: its operations.
        inputs: what it reads, the one before the last first.
        halve_first: whether the first input is twice as large as the second.
        reduction: whether the operations on the inputs have stride 2.
        settings: its width, and how its operations are built.
        rectify: give the ReLU of the output, for readers that all begin with one.
        shifts: whether the operations run at all shifts of the inputs, of a reduction that keeps the resolution.
        shifts_first: whether the first input comes from before such a cell, the second from behind it.
    """

    def __init__(
        self,
        plan: CellPlan,
        inputs: tuple[CellInput, CellInput],
        halve_first: bool,
        reduction: bool,
        settings: OpSettings,
        *,
        rectify: bool = False,
        shifts: bool = False,
        shifts_first: bool = False,
    ) -> None:
        super().__init__()
        width, affine = settings.channels, settings.affine
        first, second = inputs
        enter = FactorizedReduce if halve_first else ReLUConvBN
        self.first = enter(first.channels, width, affine=affine, rectified=first.rectified)
        self.second = ReLUConvBN(second.channels, width, affine=affine, rectified=second.rectified)
        self._rectify, self._shifts, self._shifts_first = rectify, shifts, shifts_first
        self.nodes = CellNodes(plan, settings, halved=INPUTS if reduction else 0)
        self._outputs = plan.outputs

    def forward(self, s0: Tensor, s1: Tensor, gates: Gates | None = None) -> Tensor:
        inputs = [self.first(shifted(s0) if self._shifts_first else s0), self.second(s1)]
        states = self.nodes([shifted(x) for x in inputs] if self._shifts else inputs, gates)
        return join_channels([states[index] for index in self._outputs], rectify=self._rectify)


class ConvBody(Body):
    """A stack of cells; reduction cells at 1/3 and 2/3 of the depth double the width and halve the size.

    Those that the stem wants `dense` run at every shift of their inputs, and so do the cells behind them; the features
    are put together again at the end.

    Args:
        plans: what a "normal" and a "reduce" cell are built from.
        stem: the shape of the features that come in.
        cells: how many.
        settings: the first cell's width, and how its operations are built.
        tap: also return the output of the second reduction cell, where an auxiliary head sits.

    Attributes:
        stages: for each resolution the place of its last cell, and the width of what that gives.
    """

    def __init__(
        self, plans: Mapping[str, CellPlan], stem: StemShape, cells: int, settings: OpSettings, *, tap: bool = False
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList()
        before, last, halved = CellInput(stem.channels[0]), CellInput(stem.channels[1]), stem.halved
        self._taps = (*((2 * cells // 3,) if tap else ()), cells - 1)
        widths: list[int] = []
        kinds: list[str] = []
        self._dense = dense_reductions(cells, stem.dense)
        for index in range(cells):
            reduction = index in reductions(cells)
            if reduction:
                settings = replace(settings, channels=settings.channels * 2)
            kinds.append("reduce" if reduction else "normal")
            plan = plans[kinds[-1]]
            rectify = index not in self._taps
            self.cells.append(
                ConvCell(
                    plan,
                    (before, last),
                    halved,
                    reduction,
                    settings,
                    rectify=rectify,
                    shifts=index in self._dense,
                    shifts_first=index - 1 in self._dense,
                )
            )
            widths.append(settings.channels * len(plan.outputs))
            before, last, halved = last, CellInput(widths[-1], rectify), reduction
        self._kinds = tuple(kinds)
        self.out_channels = tuple(widths[index] for index in self._taps)
        ends = [index - 1 for index in sorted(reductions(cells)) if index > 0] + [cells - 1]
        self.stages = tuple((index, widths[index]) for index in ends)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None) -> tuple[Tensor, ...]:
        """(batch, channels, height, width) feature maps, one an entry of `out_channels`."""
        s0, s1 = stem
        taps = []
        sizes: list[tuple[int, int]] = []
        for index, (cell, kind) in enumerate(zip(self.cells, self._kinds, strict=True)):
            if index in self._dense:
                sizes.append((s1.shape[2], s1.shape[3]))
            s0, s1 = s1, cell(s0, s1, gates[kind] if gates is not None else None)
            taps.extend([together(s1, sizes)] * self._taps.count(index))
        return tuple(taps)


def _stem_shape(stem: nn.Module) -> StemShape:
    shape = getattr(stem, "shape", None)
    if not isinstance(shape, StemShape):
        raise ConfigError("space.name: conv_cell needs a task whose stem gives two feature maps")
    return shape


def together(x: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Features at all shifts as one map, given the sizes before each of the cells that took them apart."""
    for size in reversed(sizes):
        x = interleaved(x, size)
    return x


def reductions(cells: int) -> set[int]:
    """The places of the reduction cells in a stack."""
    return {cells // 3, 2 * cells // 3}


def dense_reductions(cells: int, count: int) -> set[int]:
    """The places of the last `count` reduction cells, which keep the resolution."""
    places = sorted(reductions(cells), reverse=True)
    if not 0 <= count <= len(places):
        raise ConfigError(f"space.name: conv_cell can keep the resolution in 0..{len(places)} reductions, not {count}")
    return set(places[:count])


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
            for name in names:
                if name not in operations:
                    raise ValueError(f"unknown operation {name!r}; {nearest(name, operations)}")
                if names.count(name) > 1:
                    raise ValueError(f"{name!r} is listed twice")
            return names

    name: ClassVar[str] = "conv_cell"
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

    def supernet_body(self, stem: nn.Module) -> ConvBody:
        return self.partial_body(stem, parts=1)

    def partial_body(self, stem: nn.Module, parts: int) -> ConvBody:
        check_parts(self.config.channels, parts)
        plans = {name: supernet_plan(group, parts) for name, group in self.groups().items()}
        settings = OpSettings(self.config.channels, affine=False, pooling_norm=True)
        return ConvBody(plans, _stem_shape(stem), self.config.cells, settings)

    @classmethod
    def network_body(
        cls,
        architecture: Architecture,
        stem: nn.Module,
        *,
        channels: int,
        cells: int,
        auxiliary: bool = False,
        pooling_norm: bool = False,
    ) -> ConvBody:
        missing = {"normal", "reduce"} - set(architecture.cells)
        if missing:
            raise ArchitectureError(f"cells: {', '.join(sorted(missing))} is missing; a conv_cell network needs both")
        plans = {name: network_plan(architecture, name) for name in ("normal", "reduce")}
        settings = OpSettings(channels, pooling_norm=pooling_norm)
        return ConvBody(plans, _stem_shape(stem), cells, settings, tap=auxiliary)

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
        height, breadth = feature_size(stem, example)
        width, shifts = self.config.channels, 1
        dense = dense_reductions(self.config.cells, _stem_shape(stem).dense)
        for index in range(self.config.cells):
            shifts = 4 * shifts if index in dense else shifts
            reduction = index in reductions(self.config.cells)
            kind = "reduce" if reduction else "normal"
            after = ((height + 1) // 2, (breadth + 1) // 2) if reduction else (height, breadth)
            width = width * 2 if reduction else width
            for edge, (source, _) in enumerate(groups[kind].edges):
                halving = reduction and source < INPUTS
                stride, size_in = (2, (height, breadth)) if halving else (1, after)
                for op, primitive in enumerate(self.config.primitives):
                    found = operation_cost(primitive, width, stride, size_in)
                    parameters[kind][edge, op] += found[0]
                    macs[kind][edge, op] += shifts * found[1]
            height, breadth = after
        return {name: Costs(parameters[name], macs[name]) for name in groups}
