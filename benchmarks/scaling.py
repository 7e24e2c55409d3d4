"""How the cost of one sparse search step grows with M, K, channels, cells and batch, each varied alone around a base.

    python -m benchmarks.scaling --json FILE --plot FILE.png         base: M = 4, K = 8, C = 16, 8 cells, batch 32
    python -m benchmarks.scaling --scope edge --batch 64

Seconds are medians of the weight step and of the alpha step (exact gradient), all points taken in turn, so that a slow
minute of the machine meets them alike. Memory is the peak of a process that runs nothing else. `expected` counts the
operations of all cells that a draw opens, the sum of 1 - (1 - p)^M over all but `none`; `observed` is its mean over the
measured weight steps. The weight step runs just these, so its seconds are fitted by intercept + slope * operations over
the values of M. The alpha step asks the closed operations too, for the gradients of their gates. Data are random.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import peak_gb, print_peak, report
from benchmarks.search_step import SparseStep
from datanas.codes.architecture import CONV_PRIMITIVES
from datanas.kernels.hardware import keep_freed_memory
from datanas.spaces.conv_body import reductions

WARM_UP = 2
PROGRESS = 0.5
PRIMITIVES: dict[int, tuple[str, ...]] = {
    3: ("none", "skip_connect", "sep_conv_3x3"),
    5: ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
    8: CONV_PRIMITIVES,
}
"""By K, the candidates of an edge, `none` among them."""
SWEEPS: dict[str, tuple[int, ...]] = {
    "samples": (1, 2, 4, 7),
    "ops": (3, 5, 8),
    "channels": (8, 16, 32),
    "cells": (4, 8, 12),
    "batch": (16, 32, 64, 128),
}
LABELS = {"samples": "M", "ops": "K"}


@dataclass(frozen=True)
class Point:
    """What is varied."""

    samples: int
    ops: int
    channels: int
    cells: int
    batch: int


@dataclass
class Measured:
    """One entry for each measured step."""

    weight: list[float] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    ran: list[float] = field(default_factory=list)


def step_at(point: Point, options: argparse.Namespace) -> SparseStep:
    """The package's step at one point, with the exact gradient."""
    settings = {**vars(options), **asdict(point), "gradient": "exact", "share": 1.0}
    return SparseStep(argparse.Namespace(**settings), PRIMITIVES[point.ops])


def operations(step: SparseStep, tables: Mapping[str, Tensor]) -> float:
    """The sum of tables of shape (edges, ops) over all cells, `none` left out."""
    cells = step.options.cells
    copies = {"normal": cells - len(reductions(cells)), "reduce": len(reductions(cells))}
    total = 0.0
    for name, group in step.space.groups().items():
        seen = [column for column in range(group.shape[1]) if column != group.null]
        total += copies[name] * float(tables[name][:, seen].sum())
    return total


def sweeps(base: Point) -> dict[str, list[Point]]:
    """The points of each variable, in its order; the base is one of each."""
    return {
        name: [replace(base, **{name: value}) for value in sorted({*values, getattr(base, name)})]
        for name, values in SWEEPS.items()
    }


def measure(steps: Mapping[Point, SparseStep], times: int) -> dict[Point, Measured]:
    """Time every point's two updates, `times` times after warm-up."""
    found = {point: Measured() for point in steps}
    for turn in range(WARM_UP + times):
        for point, step in steps.items():
            start = time.perf_counter()
            step.alpha_step()
            middle = time.perf_counter()
            gates = step.weight_step()
            end = time.perf_counter()
            if turn >= WARM_UP:
                found[point].alpha.append(middle - start)
                found[point].weight.append(end - middle)
                opened = {name: (factors != 0).double() for name, factors in gates.items()}
                found[point].ran.append(operations(step, opened))
    return found


def peak_of(point: Point, options: argparse.Namespace) -> float:
    shape = [f"--{name}={value}" for name, value in asdict(point).items()]
    shared = [f"--{name}={getattr(options, name)}" for name in ("scope", "size", "threads", "seed")]
    return peak_gb("benchmarks.scaling", [*shape, *shared, "--peak"])


def figures_of(points: Sequence[Point], options: argparse.Namespace) -> dict[Point, dict[str, float]]:
    """By point: seconds, memory, operations."""
    steps = {point: step_at(point, options) for point in points}
    expected = {point: operations(step, step.sampler.inclusion()) for point, step in steps.items()}
    return {
        point: {
            "weight_s": round(statistics.median(found.weight), 5),
            "alpha_s": round(statistics.median(found.alpha), 5),
            "peak_gb": round(peak_of(point, options), 3),
            "expected": round(expected[point], 2),
            "observed": round(statistics.mean(found.ran), 2),
        }
        for point, found in measure(steps, options.steps).items()
    }


def fit(operations: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """Least squares of seconds = intercept + slope * operations, with residuals relative to the seconds."""
    slope, intercept = np.polyfit(operations, seconds, 1)
    residuals = [(found - intercept - slope * count) / found for count, found in zip(operations, seconds, strict=True)]
    return {
        "intercept_s": float(f"{intercept:.4g}"),
        "slope_s": float(f"{slope:.4g}"),
        "residuals": [round(float(residual), 4) for residual in residuals],
    }


def label(name: str) -> str:
    return LABELS.get(name, name)


def plot(
    points: Mapping[str, Sequence[Point]],
    found: Mapping[Point, Mapping[str, float]],
    line: Mapping[str, Any],
    destination: Path,
) -> None:
    """A panel for each variable, on one scale, and the weight step's seconds against E with the fit."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    updates = {"alpha_s": ("alpha step", "#b5541c", "s"), "weight_s": ("weight step", "#1f5f99", "o")}
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, panels = plt.subplots(1, len(points) + 1, figsize=(12, 2.5), layout="constrained")
        highest = max(figures[update] for figures in found.values() for update in updates)
        for panel, (name, varied) in zip(panels, points.items(), strict=False):
            values = [getattr(point, name) for point in varied]
            for update_name, (text, colour, marker) in updates.items():
                seconds = [found[point][update_name] for point in varied]
                panel.plot(values, seconds, color=colour, marker=marker, markersize=4, label=text)
            panel.set(xlabel=label(name), xticks=values, xlim=(0, 1.08 * values[-1]), ylim=(0, 1.08 * highest))
            if panel is not panels[0]:
                panel.tick_params(labelleft=False)
        panels[0].set_ylabel("seconds")
        panels[0].legend(frameon=False, fontsize=8, loc="upper left")
        counts = [found[point]["expected"] for point in points["samples"]]
        ends = np.array([0.0, 1.3 * max(counts)])
        panels[-1].plot(ends, line["intercept_s"] + line["slope_s"] * ends, color="#888888", linewidth=1, label="fit")
        for point, count in zip(points["samples"], counts, strict=True):
            seconds_here = found[point]["weight_s"]
            panels[-1].plot(count, seconds_here, color="#1f5f99", marker="o", markersize=4)
            panels[-1].annotate(
                f"M={point.samples}",
                (count, seconds_here),
                xytext=(5, -9),
                textcoords="offset points",
                fontsize=8,
            )
        panels[-1].set(xlabel="operations expected (E)", ylabel="weight step, seconds", xlim=(0, ends[1]))
        panels[-1].set_ylim(bottom=0)
        panels[-1].legend(frameon=False, fontsize=8, loc="lower right")
        figure.savefig(destination, dpi=200)
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4, help="M of the base")
    parser.add_argument("--ops", type=int, choices=list(PRIMITIVES), default=8, help="K of the base")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--scope", choices=["node", "edge"], default="node")
    parser.add_argument("--steps", type=int, default=5, help=f"measured at each point, after {WARM_UP} of warm-up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    base = Point(**{name: getattr(options, name) for name in SWEEPS})
    if options.peak:
        print_peak(step_at(base, options).both)
        return
    points = sweeps(base)
    found = figures_of(list(dict.fromkeys(point for varied in points.values() for point in varied)), options)
    seconds = [found[point]["weight_s"] for point in points["samples"]]
    fits = {
        kind: fit([found[point][kind] for point in points["samples"]], seconds) for kind in ("expected", "observed")
    }
    figures: dict[str, Any] = {
        f"{label(name)}={getattr(point, name)}": found[point] for name, varied in points.items() for point in varied
    }
    report(
        f"sparse search step around M = {base.samples}, K = {base.ops}, C = {base.channels}, {base.cells} cells, batch "
        f"{base.batch} of {options.size}x{options.size}, scope {options.scope}, medians of {options.steps} steps, "
        f"seed {options.seed}",
        {**figures, "fit to expected": fits["expected"], "fit to observed": fits["observed"]},
        options.json,
    )
    if options.plot is not None:
        plot(points, found, fits["expected"], options.plot)


if __name__ == "__main__":
    main()
