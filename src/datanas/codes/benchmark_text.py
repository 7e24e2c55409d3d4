"""NAS-Bench-201's text form of a cell (Dong and Yang, ICLR 2020), for any number of nodes.

`|skip_connect~0|+|none~0|nor_conv_3x3~1|` is a cell of three nodes: a part for each node after the input, and in it one
`operation~source` for each node before it. The last node is the output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from reprlib import repr as shortened

import numpy as np

from datanas.codes.cell import Cell
from datanas.codes.text_form import Form, tell_last
from datanas.core.errors import ArchitectureError, nearest

BENCHMARK_PRIMITIVES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

_NODE = r"\|(?:[^|~+\s]+~[0-9]+\|)+"
_CELL = re.compile(rf"{_NODE}(?:\+{_NODE})*")

Edges = tuple[tuple[int, int], ...]


def complete_edges(nodes: int) -> Edges:
    """(source, target) of all edges among `nodes` nodes, by target, then source."""
    return tuple((source, target) for target in range(1, nodes) for source in range(target))


def find_cells(text: str) -> list[str]:
    """The cells in a text that holds other things too, such as a log, or `Structure(4 nodes with |...|)`."""
    return _CELL.findall(text)


def read_operations(text: str) -> list[str]:
    """The operation on each edge, in the order of `complete_edges`.

    Raises:
        ArchitectureError: the text is no cell; the message names the node.
    """
    operations: list[str] = []
    for target, part in enumerate(text.strip().split("+"), start=1):
        if len(part) < 2 or part[0] != "|" or part[-1] != "|":
            raise ArchitectureError(f"node {target}: must read |operation~0|operation~1|..., got {shortened(part)}")
        by_source: dict[int, str] = {}
        for entry in part[1:-1].split("|"):
            name, mark, source = entry.partition("~")
            if not name or not mark or not (source.isascii() and source.isdigit()):
                raise ArchitectureError(f"node {target}: must hold operation~source, got {shortened(entry)}")
            if len(source) > 9 or int(source) >= target:
                raise ArchitectureError(f"node {target}: input {source[:9]} does not exist; it has 0..{target - 1}")
            if int(source) in by_source:
                raise ArchitectureError(f"node {target}: input {int(source)} is there twice")
            by_source[int(source)] = name
        for before in range(target):
            if before not in by_source:
                raise ArchitectureError(
                    f"node {target}: input {before} is missing; for no operation write none~{before}"
                )
            operations.append(by_source[before])
    return operations


def print_operations(operations: Sequence[str]) -> str:
    """The text of a cell from the operation on each edge, in the order of `complete_edges`."""
    rest = iter(operations)
    parts: list[str] = []
    count = 0
    while count < len(operations):
        entries = [f"{next(rest)}~{source}" for source in range(len(parts) + 1)]
        count += len(entries)
        parts.append("".join(f"|{entry}" for entry in entries) + "|")
    return "+".join(parts)


def read_cell(text: str, primitives: Sequence[str] | None = None) -> Cell:
    """The cell of a text.

    Args:
        text: such as `|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|`.
        primitives: the candidate operations. Default: the benchmark's, and behind them in sorted order the further
            names of the text. `none` stands for nothing and need not be one of them.

    Raises:
        ArchitectureError: the text is no cell, or holds an operation that is not among `primitives`.
    """
    operations = read_operations(text)
    if primitives is None:
        primitives = (*BENCHMARK_PRIMITIVES, *sorted(set(operations).difference(BENCHMARK_PRIMITIVES)))
    nodes = text.count("+") + 2
    edges = complete_edges(nodes)
    code = np.zeros((len(edges), len(primitives)), np.uint8)
    for row, ((source, target), name) in enumerate(zip(edges, operations, strict=True)):
        if name in primitives:
            code[row, list(primitives).index(name)] = 1
        elif name != "none":
            raise ArchitectureError(
                f"node {target}: unknown operation {name!r} on input {source}; {nearest(name, primitives)}"
            )
    return Cell(tuple(primitives), edges, (nodes - 1,), code, inputs=1)


def cell_operations(cell: Cell) -> list[str]:
    """The operation on each edge of a cell, in the order of `complete_edges`, and `none` where nothing is chosen.

    Raises:
        ArchitectureError: the cell has no text: it has other inputs, outputs or edges, or several operations on one.
    """
    if cell.inputs != 1 or cell.outputs != (cell.nodes - 1,):
        raise ArchitectureError(
            f"NAS-Bench-201's text form knows cells of one input whose last node is the output; "
            f"this one has {cell.inputs} and the outputs {', '.join(map(str, cell.outputs))}"
        )
    rows = dict(zip(cell.edges, cell.code, strict=True))
    operations = []
    for source, target in complete_edges(cell.nodes):
        row = rows.get((source, target))
        if row is None:
            raise ArchitectureError(f"edges: [{source}, {target}] is missing; NAS-Bench-201's text form has every edge")
        if row.sum() > 1:
            raise ArchitectureError(
                f"NAS-Bench-201's text form has one operation an edge; [{source}, {target}] has {row.sum()}"
            )
        operations.append(cell.primitives[int(row.argmax())] if row.any() else "none")
    return operations


def print_cell(cell: Cell) -> str:
    """The text of a cell; `read_cell` makes an equal one of it where primitives and order of edges are its own.

    Raises:
        ArchitectureError: as for `cell_operations`.
    """
    return print_operations(cell_operations(cell))


class BenchmarkForm(Form):
    """A single cell, also amid other text, such as a log."""

    def holds(self, text: str) -> bool:
        return text.lstrip().startswith("|") or bool(find_cells(text))

    def fits(self, groups: frozenset[str]) -> bool:
        return groups == {"cell"}

    def parse(self, text: str, primitives: Sequence[str] | None) -> tuple[str, dict[str, Cell]]:
        strings = [text] if text.lstrip().startswith("|") else find_cells(text)
        tell_last(strings)
        return "nasbench201", {"cell": read_cell(strings[-1], primitives)}

    def print(self, cells: Mapping[str, Cell]) -> str:
        return print_cell(cells["cell"])
