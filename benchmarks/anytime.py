"""How good a cell is after how long: true accuracy on NAS-Bench-201 against wall-clock time.

    python -m benchmarks.anytime --root cifar10.npz --table nasbench201.npz --minutes 1 4 16 --out anytime

Rows are a search with the default and a race, a race of random cells alone, the default's search alone, and any of the
other methods (`--rows`). Every run has the whole time, all that it does included, and one core; two run side by side.
What has been run stays in OUT and is not run again; at the end a table and a picture of all that is there are written
to it. The table of accuracies tells how good a cell is, and chooses nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.config import resolve
from datanas.engine.setup import load_table
from datanas.racing.race import race
from datanas.racing.search import search
from datanas.samplers import samplers

BASE: dict[str, Any] = {
    "data": {"name": "cifar10"},
    "task": {"stem": "plain_half", "train_augment": {"cutout": 0}},
    "space": {"name": "nasbench201", "channels": 8, "cells_per_stage": 1},
    "search": {
        "batch_size": 64,
        "weights": {"lr": 0.05},
        "alpha": {"lr": 0.01},
        "gap": {"examples": 500},
        "race": {"processes": 1},
    },
    "train": {
        "channels": 8,
        "cells": 3,
        "batch_size": 64,
        "auxiliary": False,
        "drop_path": 0.0,
        "weights": {"lr": 0.1, "warm_up_epochs": 1.0},
    },
    "threads": 1,
    "device": "cpu",
}
"""As recipes/small/nasbench201.yaml, with trainings for the race."""
WITH_RACE, RACE = "egs and race", "race alone"
ROWS = (WITH_RACE, RACE, *sorted(samplers))


def measure(row: str, minutes: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run of one row, or what an earlier one has found."""
    name = f"{row.replace(' ', '-')}-{minutes:g}-{seed}"
    file = options.out / f"{name}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_bytes())
        return found
    torch.set_num_threads(1)
    base = merge(BASE, {"data": {"root": str(options.root)}, "seed": seed, "run": {"root": str(options.out / "runs")}})
    base["run"]["name"] = f"{name}-{time.time_ns()}"
    began, error = time.perf_counter(), None
    cell: Architecture | None = None
    given: dict[str, Any]
    try:
        if row == RACE:
            given = {"search": {"race": {"searched": False, "time": 60.0 * minutes}}}
            cell = race(settings=merge(base, given), quiet=True).architecture
        else:
            sampler = "egs" if row == WITH_RACE else row
            given = {"sampler": {"name": sampler}, "search": {"choice": "race" if row == WITH_RACE else "derive"}}
            cell = search(merge(base, given), budget=60.0 * minutes, quiet=True).architecture
    except ConfigError as refused:  # the time is too short for it
        error = str(refused)
    found = {"row": row, "minutes": minutes, "seed": seed, "error": error, "seconds": time.perf_counter() - began}
    if cell is not None:
        table = load_table(resolve(merge(base, {"truth": {"table": str(options.table)}})))
        assert table is not None
        found["accuracy"] = table.truth(cell).value
    file.write_text(json.dumps(found))
    return found


def lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """A table in Markdown: mean and standard deviation over the seeds, rows by minutes."""
    lengths = sorted({each["minutes"] for each in found})
    yield "| | " + " | ".join(f"{minutes:g} min" for minutes in lengths) + " |"
    yield "|---|" + "---:|" * len(lengths)
    for row in dict.fromkeys(each["row"] for each in found):
        cells = []
        for minutes in lengths:
            own = [each for each in found if (each["row"], each["minutes"]) == (row, minutes)]
            values = [each["accuracy"] for each in own if "accuracy" in each]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(
                f"{statistics.mean(values):.2f}{spread} ({len(values)})" if values else "too short" * bool(own)
            )
        yield f"| {row} | " + " | ".join(cells) + " |"


def draw(found: list[dict[str, Any]], file: Path) -> None:
    """Means against minutes, a line a row, with all seeds as points."""
    from datanas.report.canvas import save_picture

    def content() -> Any:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(dict.fromkeys(each["row"] for each in found)):
            own = [each for each in found if each["row"] == row and "accuracy" in each]
            lengths = sorted({each["minutes"] for each in own})
            values = [[each["accuracy"] for each in own if each["minutes"] == minutes] for minutes in lengths]
            axes.plot(lengths, [statistics.mean(each) for each in values], color=f"C{place}", label=row, marker="o")
            for minutes, each in zip(lengths, values, strict=True):
                axes.plot([minutes] * len(each), each, color=f"C{place}", linestyle="none", marker=".", alpha=0.4)
        axes.set(xscale="log", xlabel="minutes of one core", ylabel="true CIFAR-10 accuracy of the cell, %")
        axes.legend(fontsize="small")
        return figure

    save_picture(content, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="CIFAR-10")
    parser.add_argument("--table", type=Path, required=True, help="the accuracies of all cells")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 4.0, 16.0, 64.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [(row, m, seed) for m in sorted(options.minutes) for seed in options.seeds for row in options.rows]
    with ProcessPoolExecutor(options.workers, max_tasks_per_child=1) as pool:
        for done in as_completed([pool.submit(measure, *each, options) for each in wanted]):
            found = done.result()
            print(json.dumps(found), flush=True)
    known = [json.loads(file.read_bytes()) for file in sorted(options.out.glob("*.json"))]
    known.sort(key=lambda each: (ROWS.index(each["row"]), each["minutes"], each["seed"]))
    table = "\n".join(lines(known))
    (options.out / "table.md").write_text(table + "\n")
    print(table)
    draw(known, options.out / "anytime.svg")


if __name__ == "__main__":
    main()
