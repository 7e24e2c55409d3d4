"""Where everything in the picture of a cell stands.

A picture is a layered drawing after Sugiyama, Tagawa and Toda (1981): inputs on the left, each node to the right of all
that it uses, the output last. Every operation is a labelled box on the arrow between its nodes. Nodes, boxes and the
lines that only pass by have places of their own in each column, so nothing crosses a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np

from datanas.codes.architecture import Cell
from datanas.report.text import cell_title, input_name

# A family of operations, its colour and how the names of its primitives begin.
FAMILIES = (
    ("separable convolution", "#2f6db5", ("sep_conv",)),
    ("dilated convolution", "#0f857a", ("dil_conv",)),
    ("convolution", "#7a4fb0", ("conv", "nor_conv")),
    ("inverted residual", "#8a3f4c", ("mb",)),
    ("pooling", "#c0650f", ("max_pool", "avg_pool")),
    ("identity", "#4f7f2a", ("skip_connect", "identity")),
    ("activation", "#b23a6b", ("tanh", "relu", "sigmoid")),
    ("other operation", "#5c6470", ("",)),
)
STYLE = {
    # matplotlib brings DejaVu along, so that text is as wide everywhere; browsers have Verdana, of the same widths.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "datanas",
}
"""matplotlib's settings for all pictures."""
INK, FAINT, PALE = "#20262e", "#9aa3ad", "#eef1f4"
LABEL, TITLE = 8.0, 10.0  # points
LINE = 0.28  # inches, as all lengths below
_GAP = 0.45


@dataclass(eq=False)
class Item:
    """A place in a column; `x` and `y` are its centre, lines meet it `reach` / 2 to the left and right.

    Its kind is "input", "node", "empty" (node without operations), "output", "operation" or "line" (that passes by).
    """

    kind: str
    column: int
    label: str = ""
    colour: str = INK
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    reach: float = 0.0

    @property
    def height(self) -> float:
        if self.kind == "output":
            return max(0.6, self.before[-1].y - self.before[0].y + 0.3)
        if self.kind in ("operation", "line"):
            return 0.22 if self.kind == "operation" else 0.04
        return max(0.34, 0.12 * max(len(self.before), len(self.after)) + 0.12)

    @property
    def room(self) -> float:
        """The height that it needs in its column, which for the output, alone there, does not matter."""
        return 1.0 if self.kind == "output" else self.height + 0.12

    def port(self, other: Item) -> float:
        """The height at which the line from or to `other` touches this item."""
        if self.kind == "output":
            return other.y
        side = sorted(self.before if other in self.before else self.after, key=lambda item: item.y)
        return self.y + 0.12 * (side.index(other) - (len(side) - 1) / 2)


class Panel:
    """The items of one cell in their places: columns, then the order in each, then heights."""

    def __init__(self, group: str, cell: Cell) -> None:
        self.title = cell_title(group, cell)
        self.columns: list[list[Item]] = []
        self._fill(cell)
        self._order()
        self._align()
        x = 0.0
        for column in self.columns:
            width = max(item.width for item in column)
            for item in column:
                item.x = x + width / 2
                item.reach = width if item.kind in ("operation", "line") else item.width
            x += width + _GAP
        items = [item for column in self.columns for item in column]
        top = min(item.y - item.height / 2 for item in items)
        for item in items:
            item.y += LINE + 0.1 - top
        self.width = max(x - _GAP, text_width(self.title, TITLE))
        self.height = max(item.y + item.height / 2 for item in items)

    def _add(self, item: Item, before: Iterable[Item] = ()) -> Item:
        while len(self.columns) <= item.column:
            self.columns.append([])
        self.columns[item.column].append(item)
        for other in before:
            _connect(other, item)
        return item

    def _led(self, item: Item, column: int, colour: str) -> Item:
        """The end of a line from `item` through all columns before `column`."""
        for between in range(item.column + 1, column):
            item = self._add(Item("line", between, colour=colour), [item])
        return item

    def _fill(self, cell: Cell) -> None:
        operations = cell.operations()
        rank = [0] * cell.inputs + [1] * (cell.nodes - cell.inputs)
        for _, source, target in operations:
            rank[target] = max(rank[target], rank[source] + 1)
        filled = {target for _, _, target in operations}
        nodes = []
        for node in range(cell.nodes):
            label = input_name(cell, node) if node < cell.inputs else str(node)
            kind = "input" if node < cell.inputs else "node" if node in filled else "empty"
            colour = FAINT if kind == "empty" else INK
            width = 0.55 if kind == "input" else 0.34
            nodes.append(self._add(Item(kind, 2 * rank[node], label, colour, width=width)))
        for primitive, source, target in operations:
            _, colour = operation_family(primitive)
            column = nodes[target].column - 1
            width = text_width(primitive, LABEL) + 0.2
            box = Item("operation", column, primitive, colour, width=width)
            _connect(self._add(box, [self._led(nodes[source], column, colour)]), nodes[target])
        end = 2 * max(rank) + 1
        ends = [self._led(nodes[node], end, FAINT) for node in cell.outputs]
        self._add(Item("output", end, "output", width=0.3), ends)
        self.columns = [column for column in self.columns if column]

    def _order(self) -> None:
        """Sort columns by the mean place of their neighbours, to and fro, and keep what has the fewest crossings."""
        best = self._crossings(), [list(column) for column in self.columns]
        for sweep in range(24):
            forward = sweep % 2 == 0
            for column in self.columns if forward else self.columns[::-1]:
                position = {item: i / len(c) for c in self.columns for i, item in enumerate(c)}
                centre = {
                    item: _mean([position[other] for other in (item.before if forward else item.after)], position[item])
                    for item in column
                }
                column.sort(key=centre.__getitem__)
            crossings = self._crossings()
            if crossings < best[0]:
                best = crossings, [list(column) for column in self.columns]
        self.columns = best[1]
        if self.columns[0][0].label < self.columns[0][-1].label:
            self.columns = [column[::-1] for column in self.columns]

    def _crossings(self) -> int:
        total = 0
        for left, right in pairwise(self.columns):
            position = {item: i for i, item in enumerate(right)}
            ends = np.array([end for item in left for end in sorted(position[other] for other in item.after)])
            total += int(np.triu(ends[:, None] > ends[None, :]).sum())
        return total

    def _align(self) -> None:
        """Move each item as near to the middle of its neighbours as the room of its column allows.

        Lines count most, so that they run straight.
        """
        for sweep in range(80):
            for column in self.columns if sweep % 2 == 0 else self.columns[::-1]:
                wanted = []
                for item in column:
                    near = item.before + item.after
                    near += 7 * [other for other in near if "line" in (item.kind, other.kind)]
                    wanted.append(_mean([other.y for other in near], item.y))
                for item, y in zip(column, _apart(wanted, [item.room for item in column]), strict=True):
                    item.y = y
        output = self.columns[-1][0]
        output.before.sort(key=lambda item: item.y)
        output.y = (output.before[0].y + output.before[-1].y) / 2


def operation_family(primitive: str) -> tuple[str, str]:
    """The name and the colour of the family of an operation."""
    return next((name, colour) for name, colour, starts in FAMILIES if primitive.startswith(starts))


def _connect(source: Item, target: Item) -> None:
    source.after.append(target)
    target.before.append(source)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _apart(wanted: Sequence[float], rooms: Sequence[float]) -> list[float]:
    """The places nearest to `wanted` in least squares that keep the order and leave each its room.

    Isotonic regression by pooling adjacent violators, after taking off the room of those before.
    """
    offsets = np.cumsum([0.0, *((a + b) / 2 for a, b in pairwise(rooms))])
    pools: list[list[float]] = []
    for value in np.asarray(wanted) - offsets:
        pools.append([float(value)])
        while len(pools) > 1 and _mean(pools[-2], 0) > _mean(pools[-1], 0):
            last = pools.pop()
            pools[-1] += last
    return [_mean(pool, 0) + offset for pool, offset in zip([p for p in pools for _ in p], offsets, strict=True)]


@cache
def text_width(text: str, size: float) -> float:
    """How wide `text` is, `size` in points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), unmathed(text), size=size).get_extents().width) / 72


def unmathed(text: str) -> str:
    """`text` with dollar signs that matplotlib takes for dollar signs."""
    return text.replace("$", r"\$")
