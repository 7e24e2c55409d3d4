"""The picture of a cell as a small SVG inside a page: its colours follow the page's, light or dark."""

from __future__ import annotations

from html import escape

from datanas.codes.architecture import Architecture, Cell
from datanas.report.layout import FAINT, INK, LABEL, LINE, TITLE, Item, Panel
from datanas.report.text import input_name

_SCALE = 100.0  # units an inch
_SUBSCRIPTS = str.maketrans("k-0123456789", "ₖ₋₀₁₂₃₄₅₆₇₈₉")


def cell_svgs(architecture: Architecture, when: str = "") -> list[str]:
    """A picture of each cell; `when` is said with its alternative text ("after epoch 3")."""
    return [_svg(name, cell, when) for name, cell in architecture.cells.items()]


def cell_words(name: str, cell: Cell) -> str:
    """A cell in a sentence for each node, for who does not see it."""
    lines = []
    for node in range(cell.inputs, cell.nodes):
        parts = [f"{operation} of {_node(cell, source)}" for operation, source in cell.node_inputs(node)]
        lines.append(f"node {node} is {' plus '.join(parts) if parts else 'nothing'}")
    return f"{name} cell: {'; '.join(lines)}; the output is made of {', '.join(f'node {n}' for n in cell.outputs)}."


def node_label(cell: Cell, node: int) -> str:
    """What a node is called in pictures: cₖ₋₁ for the cell before, else its number."""
    if node >= cell.inputs:
        return str(node)
    name = input_name(cell, node)
    return f"c{name[3:-1].translate(_SUBSCRIPTS)}" if name.startswith("c_{") else name


def _node(cell: Cell, node: int) -> str:
    if node >= cell.inputs:
        return f"node {node}"
    return "the input" if cell.inputs == 1 else f"the output {cell.inputs - node} cell(s) before"


def _svg(name: str, cell: Cell, when: str) -> str:
    panel = Panel(name, cell)
    width, height = panel.width + 0.1, panel.height + 0.1
    said = escape(f"{when + ': ' if when else ''}{cell_words(name, cell)}", quote=True)
    shapes = [_text(0, LINE / 2, panel.title, TITLE, "start", INK)]
    for column in panel.columns:
        for item in column:
            shapes += _item(item, cell)
    return (
        f'<svg class="cell" role="img" aria-label="{said}" viewBox="-4 0 {width * _SCALE:.0f} {height * _SCALE:.0f}" '
        f'style="--wide:{width * _SCALE * 1.1:.0f}px">{"".join(shapes)}</svg>'
    )


def _item(item: Item, cell: Cell) -> list[str]:
    shapes = []
    for other in item.before:
        colour = FAINT if item.kind == "output" else other.colour if item.kind == "node" else item.colour
        start = other.x + other.reach / 2, other.port(item)
        end = item.x - item.reach / 2, item.port(other)
        shapes.append(_curve(start, end, colour, is_arrow=item.kind in ("node", "output")))
    if item.kind in ("operation", "line"):
        x, reach = item.x * _SCALE, item.reach * _SCALE / 2
        y = item.y * _SCALE
        shapes.append(f'<path d="M{x - reach:.0f} {y:.0f}H{x + reach:.0f}" fill="none" stroke="{_ink(item.colour)}"/>')
    if item.kind == "line":
        return shapes
    kind = "o" if item.kind == "operation" else "i" if item.kind in ("input", "output") else "n"
    colour = f' fill="{item.colour}"' if kind == "o" else f' stroke="{_ink(item.colour)}"'
    dashes = ' stroke-dasharray="4 3"' if item.kind == "empty" else ""
    x, y = (item.x - item.width / 2) * _SCALE, (item.y - item.height / 2) * _SCALE
    wide, high = item.width * _SCALE, item.height * _SCALE
    shapes.append(
        f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" '
        f'rx="{min(wide, high, 20) / 2:.0f}"{colour}{dashes}/>'
    )
    label = node_label(cell, cell.inputs - int(item.label[5:-1])) if item.label.startswith("c_{") else item.label
    ink = "white" if kind == "o" else item.colour
    shapes.append(_text(item.x, item.y, label, LABEL, "middle", ink, turned=item.kind == "output"))
    return shapes


def _text(x: float, y: float, text: str, size: float, anchor: str, colour: str, *, turned: bool = False) -> str:
    position = f"{x * _SCALE:.0f} {y * _SCALE:.0f}"
    turn = f' transform="rotate(-90 {position})"' if turned else ""
    left, top = position.split()
    weight = "" if size == LABEL else ' font-weight="600"'
    return (
        f'<text x="{left}" y="{top}" dy=".35em" font-size="{size / 72 * _SCALE:.1f}" text-anchor="{anchor}" '
        f'fill="{_ink(colour)}"{weight}{turn}>{escape(text)}</text>'
    )


def _curve(start: tuple[float, float], end: tuple[float, float], colour: str, *, is_arrow: bool) -> str:
    (x0, y0), (x1, y1) = ((x * _SCALE, y * _SCALE) for x, y in (start, end))
    tip = 7.0 if is_arrow else 0.0
    middle = (x0 + x1 - tip) / 2
    ink = _ink(colour)
    line = f"M{x0:.0f} {y0:.0f}C{middle:.0f} {y0:.0f} {middle:.0f} {y1:.0f} {x1 - tip:.0f} {y1:.0f}"
    arrow = f'<path d="M{x1:.0f} {y1:.0f}l-9 -3.5v7z" fill="{ink}"/>' if is_arrow else ""
    return f'<path d="{line}" fill="none" stroke="{ink}"/>{arrow}'


def _ink(colour: str) -> str:
    """What is drawn in the picture's ink takes the page's."""
    return "currentColor" if colour == INK else colour
