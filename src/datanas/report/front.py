"""Accuracy against a cost: trained networks, and the front that none of the others beats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datanas.report.canvas import save_picture
from datanas.report.layout import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = {"searched": ("o", "#0072b2"), "random": ("s", "#e69f00")}
_OTHER = ("^", "#6b7480")
_NAMES = {"ms": "latency, ms", "B": "bytes"}


def plot_front(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a front (`pareto.json`) as SVG or PNG: the cost on a logarithmic axis, bars of 95 %.

    Raises:
        ValueError: the file's name ends otherwise.
        StorageError: it cannot be written.
    """
    points: list[Mapping[str, Any]] = data["points"]
    bars = [_bar(each) for each in points]

    def draw() -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        on_front = sorted((each for each in points if each["number"] in data["front"]), key=lambda each: each["cost"])
        axes.step(
            [each["cost"] for each in on_front],
            [each["trained"]["score"] for each in on_front],
            where="post",
            color=INK,
            linewidth=1,
            label="front",
        )
        for origin in dict.fromkeys(each["origin"] for each in points):
            mark, colour = _MARKS.get(origin, _OTHER)
            here = [index for index, each in enumerate(points) if each["origin"] == origin]
            axes.errorbar(
                [points[index]["cost"] for index in here],
                [points[index]["trained"]["score"] for index in here],
                yerr=list(zip(*(bars[index] for index in here), strict=True)),
                fmt=mark,
                color=colour,
                markersize=5,
                elinewidth=0.8,
                label=origin,
            )
        axes.set(xscale="log", xlabel=_NAMES.get(data["unit"], data["unit"]), ylabel=data["score_name"])
        axes.legend(frameon=False, fontsize=8)
        return figure

    save_picture(draw, path, dpi=150)


def _bar(point: Mapping[str, Any]) -> tuple[float, float]:
    """How far the interval reaches below and above the score; (0, 0) without one."""
    if point["interval"] is None:
        return 0.0, 0.0
    score, (low, high) = point["trained"]["score"], point["interval"]
    return max(0.0, score - low), max(0.0, high - score)
