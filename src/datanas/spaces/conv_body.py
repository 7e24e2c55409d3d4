"""The convolutional cell of Section 5, and the stack of cells that a network is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor, nn

from datanas.codes.liveness import cells_read
from datanas.core.errors import ConfigError
from datanas.kernels.gates import Gates
from datanas.kernels.layout import join_channels
from datanas.kernels.shifts import interleaved, shifted
from datanas.ops import OpSettings
from datanas.ops.conv import FactorizedReduce, ReLUConvBN
from datanas.spaces.base import Body, StemShape
from datanas.spaces.plans import CellNodes, CellPlan, reads_under

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
        groups: the choice group of each cell, whose gates it is given; by default its kind.

    Attributes:
        cells: the cells; None in place of one that is left out.
        stages: for each resolution the place of its last cell, and the width of what that gives.
    """

    def __init__(
        self,
        plans: Sequence[CellPlan | None],
        stem: StemShape,
        settings: OpSettings,
        *,
        tap: bool = False,
        groups: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList()
        count = len(plans)
        self._kinds = cell_kinds(count)
        self._groups = self._kinds if groups is None else tuple(groups)
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
        self.stages = tuple((stage[-1], widths[stage[-1]]) for stage in stages if stage)

    def walk(
        self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """The place of each cell in the stack and its output, in order; of the dense part at all shifts."""
        s0: Tensor | None
        s1: Tensor | None
        s0, s1 = stem
        needed = self._needed(gates)
        for index, (cell, group) in enumerate(zip(self.cells, self._groups, strict=True)):
            output = None
            if cell is not None and needed[index]:
                output = cell(s0, s1, gates[group] if gates is not None else None)
                yield index, output
            s0, s1 = s1, output

    def _needed(self, gates: Mapping[str, Gates] | None) -> list[bool]:
        """For each cell of a supernet whether what it gives is read under these gates; all of a rebuilt network are."""
        if gates is None:
            return [True] * len(self.cells)
        reads: dict[str, tuple[bool, ...]] = {}
        for cell, group in zip(self.cells, self._groups, strict=True):
            if isinstance(cell, ConvCell) and group not in reads:
                reads[group] = cell.reads(gates[group])
        return cells_read([reads[group] for group in self._groups], self._taps)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None) -> tuple[Tensor, ...]:
        """(batch, channels, height, width) feature maps, one an entry of `out_channels`."""
        sizes = self._sizes(stem)
        taps = []
        for index, x in self.walk(stem, gates):
            whole = [sizes[reduction] for reduction in self._dense if reduction <= index]
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
        sizes = [(height, width) if not self._halved else half_size(height, width)]
        for index, kind in enumerate(self._kinds):
            sizes.append(half_size(*sizes[index]) if kind == "reduce" else sizes[index])
        return sizes


def half_size(height: int, width: int) -> tuple[int, int]:
    """Height and width behind a stride of 2."""
    return (height + 1) // 2, (width + 1) // 2


def together(x: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Features at all shifts as one map, given the sizes before each of the cells that took them apart."""
    for size in reversed(sizes):
        x = interleaved(x, size)
    return x


def reductions(cells: int) -> set[int]:
    """The places of the reduction cells in a stack."""
    return {cells // 3, 2 * cells // 3}


def cell_kinds(cells: int) -> tuple[str, ...]:
    """The kind of each cell in a stack: "normal" or "reduce"."""
    return tuple("reduce" if index in reductions(cells) else "normal" for index in range(cells))


def dense_reductions(cells: int, count: int) -> tuple[int, ...]:
    """The places of the last `count` reduction cells, which keep the resolution, in order."""
    indices = sorted(reductions(cells))
    if not 0 <= count <= len(indices):
        raise ConfigError(
            f"space.name: a stack of cells can keep the resolution in 0..{len(indices)} reductions, not {count}"
        )
    return tuple(indices[len(indices) - count :])
