"""Cells as text and as pictures.

A picture is a layered drawing after Sugiyama, Tagawa and Toda (1981): inputs on the left, each node to the right of all
that it uses, the output last. Every operation is a labelled box on the arrow between its nodes. Nodes, boxes and the
lines that only pass by have places of their own in each column, so nothing crosses a label.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from datanas.architecture import Architecture, Cell
from datanas.errors import StorageError

# A family of operations, its colour and how the names of its primitives begin.
_FAMILIES = (
    ("separable convolution", "#2f6db5", ("sep_conv",)),
    ("dilated convolution", "#0f857a", ("dil_conv",)),
    ("convolution", "#7a4fb0", ("conv", "nor_conv")),
    ("pooling", "#c0650f", ("max_pool", "avg_pool")),
    ("identity", "#4f7f2a", ("skip_connect", "identity")),
    ("activation", "#b23a6b", ("tanh", "relu", "sigmoid")),
    ("other operation", "#5c6470", ("",)),
)
_INK, _FAINT, _PALE = "#20262e", "#9aa3ad", "#eef1f4"
_STYLE = {
    # matplotlib brings DejaVu along, so that text is as wide everywhere; browsers have Verdana, of the same widths.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "datanas",
}

_TEXT_WIDTH = 100
_LABEL, _TITLE = 8.0, 10.0  # points
_GAP, _MARGIN, _LINE, _SHEET = 0.45, 0.25, 0.28, 15.0  # inches, as all lengths below


def cell_text(architecture: Architecture) -> str:
    """The cells in lines of at most 100 characters: for every node its inputs and the operations on them."""
    name = (architecture.source or {}).get("name")
    lines = [
        *_wrapped(f"{name}: {architecture!r}" if name else repr(architecture)),
        *_wrapped(_posterior(architecture)),
    ]
    for group, cell in architecture.cells.items():
        outputs = " ".join(map(str, cell.outputs))
        lines += ["", *_wrapped(f"{_title(group, cell)}, output: {outputs}")]
        names = [_input_name(cell, node) for node in range(cell.inputs)]
        names += [f"node {node}" for node in range(cell.inputs, cell.nodes)]
        width = max(map(len, names))
        for node in range(cell.inputs, cell.nodes):
            chosen = cell.node_inputs(node)
            start = f"  {names[node]:<{width}} <- "
            if not chosen:
                lines.append(f"{start}nothing")
            for source in sorted({source for _, source in chosen}):
                operations = " + ".join(primitive for primitive, other in chosen if other == source)
                lines += _wrapped(operations, f"{start}{names[source]:<{width}}  ")
                start = " " * len(start)
    return "\n".join(lines) + "\n"


def draw_svg(architecture: Architecture, path: str | os.PathLike[str]) -> None:
    """Draw all cells into one SVG file; equal architectures give equal bytes.

    Raises:
        StorageError: the file cannot be written.
    """
    _draw(architecture, path, format="svg", metadata={"Date": None, "Creator": None})


def draw_png(architecture: Architecture, path: str | os.PathLike[str], *, dpi: int = 150) -> None:
    """Draw all cells into one PNG file.

    Raises:
        StorageError: the file cannot be written.
    """
    _draw(architecture, path, format="png", metadata={"Software": None}, dpi=dpi)


def _wrapped(text: str, start: str = "") -> list[str]:
    return textwrap.wrap(text, _TEXT_WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _title(group: str, cell: Cell) -> str:
    number = len(cell.operations())
    return f"{group}: {number} operation{'s' if number != 1 else ''}"


def _posterior(architecture: Architecture) -> str:
    posterior = architecture.posterior or {}
    log_prob, margin, samples = (posterior.get(key) for key in ("log_prob", "margin", "samples"))
    parts = []
    if log_prob is not None:
        parts.append(f"posterior probability {math.exp(min(log_prob, 0.0)):.3g} (log {log_prob:.4g})")
    if margin is not None:
        parts.append(f"margin over the next {margin:.4g}")
    if samples is not None:
        parts.append(f"M = {samples}")
    return ", ".join(parts)


def _input_name(cell: Cell, node: int) -> str:
    return "input" if cell.inputs == 1 else f"c_{{k-{cell.inputs - node}}}"


def _family(primitive: str) -> tuple[str, str]:
    return next((name, colour) for name, colour, starts in _FAMILIES if primitive.startswith(starts))


def _draw(architecture: Architecture, path: str | os.PathLike[str], **options: Any) -> None:
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure = _figure(architecture)
        try:
            figure.savefig(path, **options)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error


def _figure(architecture: Architecture) -> Any:
    from matplotlib.figure import Figure

    panels = [_Panel(group, cell) for group, cell in architecture.cells.items()]
    name = (architecture.source or {}).get("name", architecture.space)
    header = [str(name), *filter(None, [_posterior(architecture)])]
    used = {_family(name) for cell in architecture.cells.values() for name, _, _ in cell.operations()}
    legend = [(family, colour) for family, colour, _ in _FAMILIES if (family, colour) in used]

    # Panels stand side by side as far as the sheet reaches, then in further rows.
    sheet = max([_SHEET, *(panel.width for panel in panels)])
    x, y, row, right = 0.0, len(header) * _LINE + 0.1, 0.0, 0.0
    corners = []
    for panel in panels:
        if x and x + panel.width > sheet:
            x, y, row = 0.0, y + row + 0.3, 0.0
        corners.append((x, y))
        row, right = max(row, panel.height), max(right, x + panel.width)
        x += panel.width + 0.7
    keys = np.cumsum([0.0, *(_text_width(family, _LABEL) + 0.5 for family, _ in legend)])
    width = max(right, keys[-1], *(_text_width(line, _TITLE) for line in header)) + 2 * _MARGIN
    height = y + row + 0.2 + _LINE + 2 * _MARGIN

    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, width - _MARGIN), ylim=(height - _MARGIN, -_MARGIN))
    axes.set_axis_off()
    for i, line in enumerate(header):
        _write(axes, 0, (i + 0.5) * _LINE, line, **({"size": _LABEL} if i else {"size": _TITLE, "weight": "bold"}))
    for panel, (left, top) in zip(panels, corners, strict=True):
        panel.draw(axes, left, top)
    for (family, colour), left in zip(legend, keys, strict=False):
        middle = y + row + 0.2 + _LINE / 2
        _box(axes, left + 0.1, middle, 0.2, 0.14, edgecolor=colour, facecolor=colour)
        _write(axes, left + 0.27, middle, family)
    return figure


@dataclass(eq=False)
class _Item:
    """A place in a column; `x` and `y` are its centre, lines meet it `reach` / 2 to the left and right.

    Its kind is "input", "node", "empty" (node without operations), "output", "operation" or "line" (that passes by).
    """

    kind: str
    column: int
    label: str = ""
    colour: str = _INK
    before: list[_Item] = field(default_factory=list)
    after: list[_Item] = field(default_factory=list)
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

    def port(self, other: _Item) -> float:
        """The height at which the line from or to `other` touches this item."""
        if self.kind == "output":
            return other.y
        side = sorted(self.before if other in self.before else self.after, key=lambda item: item.y)
        return self.y + 0.12 * (side.index(other) - (len(side) - 1) / 2)


class _Panel:
    """The picture of one cell: columns, then the order in each, then heights."""

    def __init__(self, group: str, cell: Cell) -> None:
        self.title = _title(group, cell)
        self.columns: list[list[_Item]] = []
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
            item.y += _LINE + 0.1 - top
        self.width = max(x - _GAP, _text_width(self.title, _TITLE))
        self.height = max(item.y + item.height / 2 for item in items)

    def draw(self, axes: Any, left: float, top: float) -> None:
        _write(axes, left, top + _LINE / 2, self.title, size=_TITLE)
        for column in self.columns:
            for item in column:
                x, y = left + item.x, top + item.y
                for other in item.before:
                    colour = _FAINT if item.kind == "output" else other.colour if item.kind == "node" else item.colour
                    start = left + other.x + other.reach / 2, top + other.port(item)
                    end = x - item.reach / 2, top + item.port(other)
                    _curve(axes, start, end, colour, is_arrow=item.kind in ("node", "output"))
                if item.kind in ("operation", "line"):
                    ends = [x - item.reach / 2, x + item.reach / 2]
                    axes.plot(ends, [y, y], color=item.colour, linewidth=1.1, zorder=1)
                if item.kind == "line":
                    continue
                ink, face = item.colour, "white"
                if item.kind == "operation":
                    ink, face = "white", item.colour
                elif item.kind in ("input", "output"):
                    face = _PALE
                dashes = (0, (3, 2)) if item.kind == "empty" else "solid"
                _box(axes, x, y, item.width, item.height, edgecolor=item.colour, facecolor=face, linestyle=dashes)
                turn = 90 if item.kind == "output" else 0
                _write(axes, x, y, item.label, color=ink, ha="center", rotation=turn, math=item.kind == "input")

    def _add(self, item: _Item, before: Iterable[_Item] = ()) -> _Item:
        while len(self.columns) <= item.column:
            self.columns.append([])
        self.columns[item.column].append(item)
        for other in before:
            _connect(other, item)
        return item

    def _led(self, item: _Item, column: int, colour: str) -> _Item:
        """The end of a line from `item` through all columns before `column`."""
        for between in range(item.column + 1, column):
            item = self._add(_Item("line", between, colour=colour), [item])
        return item

    def _fill(self, cell: Cell) -> None:
        operations = cell.operations()
        rank = [0] * cell.inputs + [1] * (cell.nodes - cell.inputs)
        for _, source, target in operations:
            rank[target] = max(rank[target], rank[source] + 1)
        filled = {target for _, _, target in operations}
        nodes = []
        for node in range(cell.nodes):
            label = _input_name(cell, node) if node < cell.inputs else str(node)
            kind = "input" if node < cell.inputs else "node" if node in filled else "empty"
            colour = _FAINT if kind == "empty" else _INK
            width = 0.55 if kind == "input" else 0.34
            nodes.append(self._add(_Item(kind, 2 * rank[node], label, colour, width=width)))
        for primitive, source, target in operations:
            _, colour = _family(primitive)
            column = nodes[target].column - 1
            width = _text_width(primitive, _LABEL) + 0.2
            box = _Item("operation", column, primitive, colour, width=width)
            _connect(self._add(box, [self._led(nodes[source], column, colour)]), nodes[target])
        end = 2 * max(rank) + 1
        ends = [self._led(nodes[node], end, _FAINT) for node in cell.outputs]
        self._add(_Item("output", end, "output", width=0.3), ends)
        self.columns = [column for column in self.columns if column]

    def _order(self) -> None:
        """Sort columns by the mean place of their neighbours, to and fro, and keep what has the fewest crossings."""
        best = self._crossings(), [list(column) for column in self.columns]
        for sweep in range(24):
            forward = sweep % 2 == 0
            for column in self.columns if forward else self.columns[::-1]:
                place = {item: i / len(c) for c in self.columns for i, item in enumerate(c)}
                centre = {
                    item: _mean([place[other] for other in (item.before if forward else item.after)], place[item])
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
            place = {item: i for i, item in enumerate(right)}
            ends = np.array([end for item in left for end in sorted(place[other] for other in item.after)])
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


def _connect(source: _Item, target: _Item) -> None:
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
def _text_width(text: str, size: float) -> float:
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), _unmathed(text), size=size).get_extents().width) / 72


def _unmathed(text: str) -> str:
    """`text` with dollar signs that matplotlib takes for dollar signs."""
    return text.replace("$", r"\$")


def _write(axes: Any, x: float, y: float, text: str, *, math: bool = False, **style: Any) -> None:
    shown = f"${text}$" if math and text.startswith("c_") else _unmathed(text)
    axes.text(x, y, shown, **{"size": _LABEL, "color": _INK, "va": "center", "zorder": 4} | style)


def _box(axes: Any, x: float, y: float, width: float, height: float, **style: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = f"round,pad=0,rounding_size={min(width, height, 0.2) / 2}"
    corner = x - width / 2, y - height / 2
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, linewidth=1.0, zorder=3, **style))


def _curve(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str, *, is_arrow: bool) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    (x0, y0), (x1, y1) = start, end
    tip = 0.07 if is_arrow else 0.0
    middle = (x0 + x1 - tip) / 2
    path = Path([(x0, y0), (middle, y0), (middle, y1), (x1 - tip, y1)], [Path.MOVETO, *[Path.CURVE4] * 3])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.1, zorder=1))
    if is_arrow:
        points = [(x1, y1), (x1 - 0.09, y1 - 0.035), (x1 - 0.09, y1 + 0.035)]
        axes.add_patch(Polygon(points, closed=True, facecolor=colour, edgecolor="none", zorder=2))
