"""A comparison of search methods as a picture, from the contents of comparison.json."""

from __future__ import annotations

import os
import textwrap
from typing import Any

from datanas.report.canvas import save_picture
from datanas.report.comparison import (
    Data,
    budget_line,
    by_seed,
    digits_of,
    failed_text,
    has_failures,
    is_number,
    mean_text,
    percent,
    ranked,
    unit,
)
from datanas.report.layout import FAINT, INK, LABEL, PALE, TITLE, text_width, unmathed

_METHOD = "#2f6db5"
_BAND = "#f3e9d2"
_ROW, _PLOT, _MARGIN = 0.28, 5.0, 0.25  # inches
_LEGEND = ("mean of a method", "of a control", "one seed", "95 % interval", "95 % interval of ")
_DPI = 150


def draw_comparison(data: Data, path: str | os.PathLike[str]) -> None:
    """Draw every row's seeds, mean and interval into an SVG or PNG file; equal data give equal bytes.

    Raises:
        ValueError: the file's suffix is neither .svg nor .png.
        StorageError: the file cannot be written.
    """
    save_picture(lambda: _figure(data), path, dpi=_DPI)


def _figure(data: Data) -> Any:
    from matplotlib.figure import Figure

    rows = ranked(data)
    names = [" ".join(row["name"].split()) for row in rows]
    digits = digits_of(data)
    sides = [f"{mean_text(row, digits)}{f'  ({failed_text(row)} failed)' if has_failures(row) else ''}" for row in rows]
    left = max([text_width(name, LABEL) for name in names], default=0.0) + _MARGIN + 0.15
    right = max([text_width(side, LABEL) for side in sides], default=0.0) + _MARGIN + 0.15
    legend = text_width("".join(_LEGEND) + str(data.get("reference")), LABEL) + 2.0
    title, axis = f"Comparison by {data['metric']}", f"{data['metric']}{unit(data)}"
    width = max(left + _PLOT + right, 2 * _MARGIN + legend, 2 * _MARGIN + 1.2 * text_width(title, TITLE))
    characters = int((width - 2 * _MARGIN) / text_width("n" * 100, LABEL) * 100)
    header = [
        line
        for text in (budget_line(data), f"Verdict: {data['winner']['text']}.")
        for line in textwrap.wrap(text, characters)
    ]
    top = _MARGIN + 0.3 + 0.19 * len(header) + 0.15
    body = _ROW * max(len(rows), 1)
    bottom = 0.85
    height = top + body + bottom

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(_MARGIN / width, 1 - _MARGIN / height, unmathed(title), size=TITLE, weight="bold", color=INK, va="top")
    for i, line in enumerate(header):
        y = 1 - (_MARGIN + 0.3 + 0.19 * i) / height
        figure.text(_MARGIN / width, y, unmathed(line), size=LABEL, color=INK, va="top")
    axes = figure.add_axes((left / width, bottom / height, _PLOT / width, body / height))
    axes.set(ylim=(len(rows) - 0.5 if rows else 0.5, -0.5), yticks=range(len(rows)))
    axes.set_yticklabels([unmathed(name) for name in names], size=LABEL, color=INK)
    axes.tick_params(axis="x", labelsize=LABEL, color=FAINT, labelcolor=INK)
    axes.tick_params(axis="y", length=0)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(axis="x", color=PALE, zorder=0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.set_xlabel(unmathed(axis), size=LABEL, color=INK)

    band = next((row for row in rows if row["name"] == data.get("reference")), None)
    has_band = band is not None and is_number(band.get("low")) and is_number(band.get("high"))
    if band is not None and has_band:
        axes.axvspan(band["low"], band["high"], color=_BAND, linewidth=0, zorder=0.5)
    for y, (row, side) in enumerate(zip(rows, sides, strict=True)):
        colour = FAINT if row["kind"] == "control" else _METHOD
        _draw_row(axes, y, row, colour)
        axes.text(1.02, y, side, transform=axes.get_yaxis_transform(), size=LABEL, color=INK, va="center_baseline")
    if not any(is_number(row.get("mean")) for row in rows):
        axes.set(xticks=[])
    _draw_legend(figure, data, _MARGIN / width, (bottom - 0.5) / height, band["name"] if band and has_band else None)
    return figure


def _draw_row(axes: Any, y: int, row: Data, colour: str) -> None:
    seeds = [run["score"] for _, run in by_seed(row) if is_number(run.get("score"))]
    dots = {"linestyle": "none", "marker": "o", "color": colour}
    if seeds:
        # A little below, where neither the interval nor the mean hides them.
        axes.plot(seeds, [y + 0.22] * len(seeds), **dots, markersize=3.5, alpha=0.45, markeredgewidth=0, zorder=3)
    if is_number(row.get("low")) and is_number(row.get("high")):
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    if is_number(row.get("mean")):
        axes.plot([row["mean"]], [y], **dots, markersize=6, markeredgecolor="white", markeredgewidth=0.8, zorder=4)


def _draw_legend(figure: Any, data: Data, x: float, y: float, band: str | None) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
    keys: list[Any] = [
        Line2D([], [], **dot, color=_METHOD, markersize=6.5, label="mean of a method"),
        Line2D([], [], **dot, color=FAINT, markersize=6.5, label="of a control"),
        Line2D([], [], **dot, color=_METHOD, markersize=3.5, alpha=0.45, label="one seed"),
        Line2D([], [], color=_METHOD, linewidth=1.6, label=f"{percent(data)} interval"),
    ]
    if band:
        keys.append(Patch(color=_BAND, linewidth=0, label=unmathed(f"{percent(data)} interval of {band}")))
    figure.legend(
        handles=keys,
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=len(keys),
        frameon=False,
        fontsize=LABEL,
        labelcolor=INK,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.2,
        handletextpad=0.4,
        handlelength=1.4,
    )
