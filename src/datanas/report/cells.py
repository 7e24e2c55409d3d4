"""Cells as text and as pictures."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datanas.codes.architecture import Architecture
from datanas.report.canvas import draw_all, save_picture
from datanas.report.layout import (
    FAINT,
    FAMILIES,
    INK,
    LABEL,
    LINE,
    PALE,
    TITLE,
    Panel,
    operation_family,
    text_width,
    unmathed,
)
from datanas.report.text import cell_text as cell_text
from datanas.report.text import posterior_line

_MARGIN, _SHEET = 0.25, 15.0  # inches


def draw_svg(architecture: Architecture, path: str | os.PathLike[str]) -> None:
    """Draw all cells into one SVG file; equal architectures give equal bytes.

    Raises:
        StorageError: the file cannot be written.
    """
    save_picture(lambda: _figure(architecture), path, "svg")


def draw_png(architecture: Architecture, path: str | os.PathLike[str], *, dpi: int = 150) -> None:
    """Draw all cells into one PNG file.

    Raises:
        StorageError: the file cannot be written.
    """
    save_picture(lambda: _figure(architecture), path, "png", dpi)


def draw_cells(architecture: Architecture, svg: Path, *, require_storage: bool = False) -> tuple[list[str], list[str]]:
    """Draw all cells into an SVG file and a PNG file beside it, as far as that can be done; see `draw_all`."""
    pictures = {svg: partial(draw_svg, architecture), svg.with_suffix(".png"): partial(draw_png, architecture)}
    return draw_all(pictures, require_storage=require_storage)


def _figure(architecture: Architecture) -> Any:
    from matplotlib.figure import Figure

    panels = [Panel(group, cell) for group, cell in architecture.cells.items()]
    name = (architecture.source or {}).get("name", architecture.space)
    header = [str(name), *filter(None, [posterior_line(architecture)])]
    used = {operation_family(name) for cell in architecture.cells.values() for name, _, _ in cell.operations()}
    legend = [(family, colour) for family, colour, _ in FAMILIES if (family, colour) in used]

    # Panels stand side by side as far as the sheet reaches, then in further rows.
    sheet = max([_SHEET, *(panel.width for panel in panels)])
    x, y, row, right = 0.0, len(header) * LINE + 0.1, 0.0, 0.0
    corners = []
    for panel in panels:
        if x and x + panel.width > sheet:
            x, y, row = 0.0, y + row + 0.3, 0.0
        corners.append((x, y))
        row, right = max(row, panel.height), max(right, x + panel.width)
        x += panel.width + 0.7
    keys = np.cumsum([0.0, *(text_width(family, LABEL) + 0.5 for family, _ in legend)])
    width = max(right, keys[-1], *(text_width(line, TITLE) for line in header)) + 2 * _MARGIN
    height = y + row + 0.2 + LINE + 2 * _MARGIN

    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, width - _MARGIN), ylim=(height - _MARGIN, -_MARGIN))
    axes.set_axis_off()
    for i, line in enumerate(header):
        _write(axes, 0, (i + 0.5) * LINE, line, **({"size": LABEL} if i else {"size": TITLE, "weight": "bold"}))
    for panel, (left, top) in zip(panels, corners, strict=True):
        _draw_panel(panel, axes, left, top)
    for (family, colour), left in zip(legend, keys, strict=False):
        middle = y + row + 0.2 + LINE / 2
        _box(axes, left + 0.1, middle, 0.2, 0.14, edgecolor=colour, facecolor=colour)
        _write(axes, left + 0.27, middle, family)
    return figure


def _draw_panel(panel: Panel, axes: Any, left: float, top: float) -> None:
    _write(axes, left, top + LINE / 2, panel.title, size=TITLE)
    for column in panel.columns:
        for item in column:
            x, y = left + item.x, top + item.y
            for other in item.before:
                colour = FAINT if item.kind == "output" else other.colour if item.kind == "node" else item.colour
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
                face = PALE
            dashes = (0, (3, 2)) if item.kind == "empty" else "solid"
            _box(axes, x, y, item.width, item.height, edgecolor=item.colour, facecolor=face, linestyle=dashes)
            turn = 90 if item.kind == "output" else 0
            _write(axes, x, y, item.label, color=ink, ha="center", rotation=turn, math=item.kind == "input")


def _write(axes: Any, x: float, y: float, text: str, *, math: bool = False, **style: Any) -> None:
    shown = f"${text}$" if math and text.startswith("c_") else unmathed(text)
    axes.text(x, y, shown, **{"size": LABEL, "color": INK, "va": "center", "zorder": 4} | style)


def _box(axes: Any, x: float, y: float, width: float, height: float, **style: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = f"round,pad=0,rounding_size={min(width, height, 0.2) / 2}"
    corner = x - width / 2, y - height / 2
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, linewidth=1.0, zorder=3, **style))


def _curve(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str, *, is_arrow: bool) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Curve

    (x0, y0), (x1, y1) = start, end
    tip = 0.07 if is_arrow else 0.0
    middle = (x0 + x1 - tip) / 2
    path = Curve([(x0, y0), (middle, y0), (middle, y1), (x1 - tip, y1)], [Curve.MOVETO, *[Curve.CURVE4] * 3])
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.1, zorder=1))
    if is_arrow:
        points = [(x1, y1), (x1 - 0.09, y1 - 0.035), (x1 - 0.09, y1 + 0.035)]
        axes.add_patch(Polygon(points, closed=True, facecolor=colour, edgecolor="none", zorder=2))
