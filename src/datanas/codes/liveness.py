"""Which part of a cell takes part in a network. Plain data, no torch.

An operation is live where a path leads from an input through it to an output. What is not live changes nothing but the
size of a network: what the input does not reach is constant, and what does not reach the output is never seen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datanas.codes.cell import Cell


@dataclass(frozen=True)
class LiveCell:
    """The live part of a cell.

    Attributes:
        code: uint8, (edges, ops): the code of the cell, 0 where an operation is not live.
        outputs: the outputs that an input reaches, in the order of the cell's.
        reads: for each input node whether anything live reads it.
    """

    code: NDArray[np.uint8]
    outputs: tuple[int, ...]
    reads: tuple[bool, ...]


@dataclass(frozen=True)
class LiveCount:
    """How much of what was chosen takes part in a network.

    Attributes:
        operations, chosen: live operations, and chosen ones, over all cells.
        cells, of: cells of which anything is live, and all cells.
    """

    operations: int
    chosen: int
    cells: int
    of: int

    def text(self) -> str:
        """What is left out, for people; empty where all is live."""
        if self.operations == self.chosen:
            return ""
        if self.operations == 0:
            return "no operation leads from the input to the output: the network cannot learn from what it is given"
        dead = f"{self.chosen - self.operations} of {self.chosen} operations"
        cells = "" if self.cells == self.of else f" and {self.of - self.cells} of {self.of} cells whole"
        return f"{dead}{cells} cannot reach the output, or are not reached by the input"


@dataclass(frozen=True)
class LiveStack:
    """The live part of a stack of cells.

    Attributes:
        cells: the live part of each; None for a cell of which nothing is live.
        reads: for each of the values that come before the first cell whether anything live reads it.
        count: how much of the stack that is.
    """

    cells: tuple[LiveCell | None, ...]
    reads: tuple[bool, ...]
    count: LiveCount


@dataclass(frozen=True)
class LiveEdges:
    """The live part of a graph.

    Attributes:
        edges: for each edge whether it is live.
        outputs: the outputs that an input reaches, in the order given.
        reads: for each input node whether a live edge leaves it or it is an output.
    """

    edges: tuple[bool, ...]
    outputs: tuple[int, ...]
    reads: tuple[bool, ...]


def live_edges(
    edges: Sequence[tuple[int, int]],
    is_open: Sequence[bool],
    outputs: Sequence[int],
    inputs: int,
    reached: Sequence[bool] | None = None,
) -> LiveEdges:
    """Which open edges lie on a path from an input to an output.

    Args:
        edges: (source, target) of each; an edge leads from a lower node to a higher one.
        is_open: for each edge whether anything runs on it.
        outputs: the nodes that are read.
        inputs: number of input nodes, which come first.
        reached: for each input node whether there is anything in it; by default there is in all.
    """
    nodes = 1 + max(*(target for _, target in edges), *outputs)
    has_value = [*(reached or [True] * inputs), *[False] * (nodes - inputs)]
    rows = sorted(range(len(edges)), key=lambda row: edges[row][1])
    for row in rows:  # sources are settled before their targets
        source, target = edges[row]
        has_value[target] |= is_open[row] and has_value[source]
    live_outputs = tuple(node for node in outputs if has_value[node])
    is_read = [node in live_outputs for node in range(nodes)]
    live = [False] * len(edges)
    for row in reversed(rows):
        source, target = edges[row]
        if is_open[row] and has_value[source] and is_read[target]:
            live[row] = is_read[source] = True
    return LiveEdges(tuple(live), live_outputs, tuple(is_read[:inputs]))


def live_cell(cell: Cell, reached: Sequence[bool] | None = None) -> LiveCell:
    """The live part of a cell whose outputs are all read.

    Args:
        reached: for each input node whether the network's input reaches it; by default all are.
    """
    is_open = [any(row) for row in cell.code.tolist()]
    live = live_edges(cell.edges, is_open, cell.outputs, cell.inputs, reached)
    code = cell.code * np.array(live.edges, np.uint8)[:, None]
    return LiveCell(code, live.outputs, live.reads)


def lets_through(cell: Cell) -> bool:
    """Whether a path leads through the cell, from an input to an output.

    A stack of cells that all do lets its input through whatever its depth: from the last cell one comes back from
    reader to read, through cells that all have something to read, to the first cell's inputs.
    """
    return bool(live_cell(cell).outputs)


def cells_read(reads: Sequence[Sequence[bool]], taps: Collection[int]) -> list[bool]:
    """For each cell in a row whether another one that counts reads it.

    Args:
        reads: for each cell which of the values before it it reads, the last one last.
        taps: the cells that are read from outside, and so count.
    """
    read = [index in taps for index in range(len(reads))]
    for index in reversed(range(len(reads))):
        for distance, is_read in enumerate(reversed(reads[index]), start=1):
            if read[index] and is_read and index >= distance:
                read[index - distance] = True
    return read


def live_stack(cells: Sequence[Cell]) -> LiveStack:
    """The live part of cells in a row, each of which reads as many values before it as it has inputs.

    The last cell's output is that of the network. Where no path leads from its input to there, nothing is live.
    """
    inputs = cells[0].inputs
    has_value = [True] * inputs
    parts: list[LiveCell | None] = []
    for index, cell in enumerate(cells):
        live_part = live_cell(cell, has_value[index : index + inputs])
        parts.append(live_part)
        has_value.append(bool(live_part.outputs))
    is_read = [False] * len(cells) + [False] * (inputs - 1) + [has_value[-1]]
    for index in reversed(range(len(cells))):
        part = parts[index]
        if part is None or not is_read[index + inputs]:
            parts[index] = None
            continue
        for offset, reads in enumerate(part.reads):
            is_read[index + offset] |= reads
    left = [part for part in parts if part is not None]
    live, chosen = (sum(int(each.code.sum()) for each in group) for group in (left, cells))
    return LiveStack(tuple(parts), tuple(is_read[:inputs]), LiveCount(live, chosen, len(left), len(cells)))
