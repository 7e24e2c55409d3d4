"""The convolutional cell space of Section 5: DARTS' cells, with any number of operations on an edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor, nn

from datanas.codes.architecture import CONV_PRIMITIVES, Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCount, LiveStack, cells_read, live_stack
from datanas.core.errors import ArchitectureError, ConfigError, nearest
from datanas.core.settings import ComponentConfig
from datanas.kernels.gates import Gates
from datanas.kernels.layout import join_channels
from datanas.kernels.shifts import interleaved, shifted
from datanas.ops import OpSettings, operations
from datanas.ops.conv import FactorizedReduce, ReLUConvBN
from datanas.spaces import register_space
from datanas.spaces.base import Body, Costs, Space, StemShape
from datanas.spaces.plans import (
    CellNodes,
    CellPlan,
    check_parts,
    feature_size,
    network_plan,
    operation_cost,
    reads_under,
    require_known,
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

    An input that nothing in the plan reads has no way in.

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
        self.first = enter(first.channels, width, affine=affine, rectified=first.rectified) if plan.reads[0] else None
        self.second = (
            ReLUConvBN(second.channels, width, affine=affine, rectified=second.rectified) if plan.reads[1] else None
        )
        self._rectify, self._shifts, self._shifts_first = rectify, shifts, shifts_first
        self._plan = plan
        self.nodes = CellNodes(plan, settings, halved=INPUTS if reduction else 0)

    def reads(self, gates: Gates | None) -> tuple[bool, ...]:
        """Which of its two inputs the cell needs."""
        return reads_under(self._plan, gates)

    def forward(self, s0: Tensor | None, s1: Tensor | None, gates: Gates | None = None) -> Tensor:
        """The output of the cell; an input that it does not need may be None."""
        reads = self.reads(gates)
        first = second = None
        if self.first is not None and s0 is not None and reads[0]:
            first = self.first(shifted(s0) if self._shifts_first else s0)
        if self.second is not None and s1 is not None and reads[1]:
            second = self.second(s1)
        inputs = [shifted(x) if self._shifts and x is not None else x for x in (first, second)]
        states = self.nodes(inputs, gates)
        return join_channels([states[index] for index in self._plan.outputs], rectify=self._rectify)


class ConvBody(Body):
    """A stack of cells; reduction cells at 1/3 and 2/3 of the depth double the width and halve the size.

    Those that the stem wants `dense` run at every shift of their inputs, and so do the cells behind them; the features
    are put together again at the end.

    Args:
        plans: what each cell is built from; None for one that is left out.
        stem: the shape of the features that come in.
        settings: the first cell's width, and how its operations are built.
        tap: also return what an auxiliary head reads: the output of the second reduction cell, or of the first one
            behind it where that is left out.

    Attributes:
        cells: the cells; None in place of one that is left out.
        stages: for each resolution the place of its last cell, and the width of what that gives.
    """

    def __init__(
        self, plans: Sequence[CellPlan | None], stem: StemShape, settings: OpSettings, *, tap: bool = False
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList()
        count = len(plans)
        self._kinds = cell_kinds(count)
        self._dense = dense_reductions(count, stem.dense)
        built = [index for index, plan in enumerate(plans) if plan is not None]
        tapped = next((index for index in built if index >= 2 * count // 3), count - 1)
        self._taps = (tapped, count - 1) if tap else (count - 1,)
        self._halved = stem.halved
        before, last, halved = CellInput(stem.channels[0]), CellInput(stem.channels[1]), stem.halved
        widths: list[int] = []
        for index, (plan, kind) in enumerate(zip(plans, self._kinds, strict=True)):
            if kind == "reduce":
                settings = replace(settings, channels=settings.channels * 2)
            rectify = index not in self._taps
            self.cells.add_module(
                str(index),
                None
                if plan is None
                else ConvCell(
                    plan,
                    (before, last),
                    halved,
                    kind == "reduce",
                    settings,
                    rectify=rectify,
                    shifts=index in self._dense,
                    shifts_first=index - 1 in self._dense,
                ),
            )
            widths.append(settings.channels * (1 if plan is None else len(plan.outputs)))
            before, last, halved = last, CellInput(widths[-1], rectify), kind == "reduce"
        self.out_channels = tuple(widths[index] for index in self._taps)
        starts = [0, *sorted(reductions(count)), count]
        stages = [[i for i in built if start <= i < end] for start, end in pairwise(starts)]
        self.stages = tuple((places[-1], widths[places[-1]]) for places in stages if places)

    def walk(
        self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """The place of each cell in the stack and its output, in order; of the dense part at all shifts."""
        s0: Tensor | None
        s1: Tensor | None
        s0, s1 = stem
        needed = self._needed(gates)
        for index, (cell, kind) in enumerate(zip(self.cells, self._kinds, strict=True)):
            found = None
            if cell is not None and needed[index]:
                found = cell(s0, s1, gates[kind] if gates is not None else None)
                yield index, found
            s0, s1 = s1, found

    def _needed(self, gates: Mapping[str, Gates] | None) -> list[bool]:
        """For each cell of a supernet whether what it gives is read under these gates; all of a rebuilt network are."""
        if gates is None:
            return [True] * len(self.cells)
        reads: dict[str, tuple[bool, ...]] = {}
        for cell, kind in zip(self.cells, self._kinds, strict=True):
            if isinstance(cell, ConvCell) and kind not in reads:
                reads[kind] = cell.reads(gates[kind])
        return cells_read([reads[kind] for kind in self._kinds], self._taps)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None) -> tuple[Tensor, ...]:
        """(batch, channels, height, width) feature maps, one an entry of `out_channels`."""
        sizes = self._sizes(stem)
        taps = []
        for index, x in self.walk(stem, gates):
            whole = [sizes[place] for place in self._dense if place <= index]
            taps.extend([together(x, whole)] * self._taps.count(index))
        if not taps:  # nothing leads from the input to here
            x, size = stem[0], sizes[self._dense[0] if self._dense else -1]
            taps = [x.new_zeros(()).expand(x.shape[0], width, *size) for width in self.out_channels]
        return tuple(taps)

    def _sizes(self, stem: tuple[Tensor, Tensor]) -> list[tuple[int, int]]:
        """Height and width of the maps before each cell of the stack and, at the end, behind the last.

        In the dense part those of the maps of one shift, which are as large as if no cell were dense.
        """
        height, width = stem[0].shape[2:]
        sizes = [(height, width) if not self._halved else _halved(height, width)]
        for index, kind in enumerate(self._kinds):
            sizes.append(_halved(*sizes[index]) if kind == "reduce" else sizes[index])
        return sizes


def _halved(height: int, width: int) -> tuple[int, int]:
    return (height + 1) // 2, (width + 1) // 2


def _stem_shape(stem: nn.Module) -> StemShape:
    shape = getattr(stem, "shape", None)
    if not isinstance(shape, StemShape):
        raise ConfigError("space.name: conv_cell needs a task whose stem gives two feature maps")
    return shape


def _live_stack(architecture: Architecture, cells: int) -> LiveStack:
    return live_stack([architecture.cells[kind] for kind in cell_kinds(cells)])


def together(x: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Features at all shifts as one map, given the sizes before each of the cells that took them apart."""
    for size in reversed(sizes):
        x = interleaved(x, size)
    return x


def reductions(cells: int) -> set[int]:
    """The places of the reduction cells in a stack."""
    return {cells // 3, 2 * cells // 3}


def cell_kinds(cells: int) -> tuple[str, ...]:
    """The group of each cell in a stack: "normal" or "reduce"."""
    return tuple("reduce" if index in reductions(cells) else "normal" for index in range(cells))


def dense_reductions(cells: int, count: int) -> tuple[int, ...]:
    """The places of the last `count` reduction cells, which keep the resolution, in order."""
    places = sorted(reductions(cells))
    if not 0 <= count <= len(places):
        raise ConfigError(f"space.name: conv_cell can keep the resolution in 0..{len(places)} reductions, not {count}")
    return tuple(places[len(places) - count :])


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
    small: ClassVar[Mapping[str, Any]] = {"space": {"cells": 5}, "train": {"cells": 5}}

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
        return ConvBody([plans[kind] for kind in cell_kinds(self.config.cells)], _stem_shape(stem), settings)

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
        prune: bool = True,
    ) -> ConvBody:
        missing = {"normal", "reduce"} - set(architecture.cells)
        if missing:
            raise ArchitectureError(f"cells: {', '.join(sorted(missing))} is missing; a conv_cell network needs both")
        for name in ("normal", "reduce"):
            require_known(architecture, name)
        settings = OpSettings(channels, pooling_norm=pooling_norm)
        kinds = cell_kinds(cells)
        stack = _live_stack(architecture, cells) if prune else None
        plans = (
            [
                None if part is None else network_plan(architecture, kind, part)
                for kind, part in zip(kinds, stack.cells, strict=True)
            ]
            if stack
            else [network_plan(architecture, kind) for kind in kinds]
        )
        body = ConvBody(plans, _stem_shape(stem), settings, tap=auxiliary)
        if stack is not None:
            body.reads = stack.reads[0], stack.reads[1]
        return body

    @classmethod
    def count_live(cls, architecture: Architecture, cells: int) -> LiveCount:
        return _live_stack(architecture, cells).count

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
