"""Predicted against measured latencies of networks that a table's fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datanas.core.atomic import write_atomic
from datanas.report.canvas import save_picture
from datanas.report.layout import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def latency_csv(measured_ms: Sequence[float], predicted_ms: Sequence[float], path: Path) -> None:
    """Write a line a network.

    Raises:
        StorageError: the file cannot be written.
    """
    lines = [f"{measured:.6g},{predicted:.6g}\n" for measured, predicted in zip(measured_ms, predicted_ms, strict=True)]
    write_atomic(path, "".join(["measured_ms,predicted_ms\n", *lines]).encode())


def plot_latency(measured_ms: Sequence[float], predicted_ms: Sequence[float], path: Path) -> None:
    """Write a scatter as SVG or PNG; on the line a prediction is right.

    Raises:
        ValueError: the file's name ends otherwise.
        StorageError: it cannot be written.
    """

    def draw() -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.2, 4.0), layout="constrained")
        axes = figure.add_subplot()
        ends = (0.0, 1.05 * max(*measured_ms, *predicted_ms))
        axes.plot(ends, ends, color=FAINT, linewidth=1)
        axes.plot(measured_ms, predicted_ms, "o", color=INK, markersize=4, alpha=0.7)
        axes.set(xlim=ends, ylim=ends, xlabel="measured, ms", ylabel="predicted, ms", aspect="equal")
        return figure

    save_picture(draw, path, dpi=150)
