"""How far supernet, sampled children and the kept child are apart: for each method, or for each constraint of EGS.

    python -m benchmarks.gaps --root PATH --set methods --seconds 100        as Table 2, at equal wall time
    python -m benchmarks.gaps --root PATH --set constraints --steps 780      as Figure 8b, at equal steps

A cell of DARTS' space in 5 cells of 8 channels, on 5,000 images of CIFAR-10 at 16x16, half for the weights and half for
alpha. All scores are of the alpha part, in per cent; the test set is not read. What the seconds come to in epochs is
measured first, method by method with nothing else running, and then fixed. Runs that are there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import machine
from datanas.comparison.pool import Command, run_all
from datanas.core.settings import merge
from datanas.engine.config import Config, resolve
from datanas.engine.dry_run import measure_job
from datanas.engine.search import SearchJob
from datanas.engine.search_result import RESULT_FILE
from datanas.engine.setup import load_task, select_device

BASE: dict[str, Any] = {
    "data": {"name": "cifar10", "train_images": 5000, "test_images": 1000},
    "task": {"stem": "cifar_half"},
    "space": {"name": "conv_cell", "cells": 5, "channels": 8},
    "search": {
        "batch_size": 64,
        "weights": {"lr": 0.05},
        "alpha": {"lr": 0.01},
        "gap": {"children": 20, "examples": 1000},
    },
}
METHODS = (
    "egs",
    "darts",
    "snas",
    "gdas",
    "proxylessnas",
    "enas",
    "dso_nas",
    "pc_darts",
    "drnas",
    "random",
    "evolution",
)
CONSTRAINTS: dict[str, dict[str, Any]] = {
    kind: {"name": "egs", "constraint": {"kind": kind, "gamma": gamma}}
    for kind, gamma in (("none", 0.0), ("l1", 1e-2), ("l2", 1e-2), ("kl", 1e-2), ("entropy", 1e-2))
}
FIGURES = ("supernet", "children_mean", "children_variance", "child", "inherited")


def variants(chosen: str) -> dict[str, dict[str, Any]]:
    """The settings of the sampler, by name."""
    return CONSTRAINTS if chosen == "constraints" else {name: {"name": name} for name in METHODS}


def configuration(options: argparse.Namespace, sampler: dict[str, Any], seed: int, epochs: int) -> Config:
    """One search, measured once, at its end."""
    search = {"epochs": epochs, "gap": {"every": epochs}}
    raw = merge(BASE, {"seed": seed, "threads": 1, "sampler": sampler, "search": search})
    return resolve(merge(raw, {"data": {"root": str(options.root)}}))


def epochs_of(options: argparse.Namespace, sampler: dict[str, Any]) -> int:
    """How many epochs the budget is."""
    config = configuration(options, sampler, 0, 1)
    device = select_device(config)
    job = SearchJob(config, load_task(config, device), device)
    if options.steps is not None:
        return max(1, round(options.steps / job.steps_per_epoch))
    step, rest = measure_job(job, device)
    return max(1, int((options.seconds - rest) / (step * job.steps_per_epoch)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--set", choices=("methods", "constraints"), default="methods")
    parser.add_argument("--only", nargs="*", help="some of the set alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds", type=float)
    budget.add_argument("--steps", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="of the runs; by default one that is removed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: found for name, found in variants(options.set).items() if not options.only or name in options.only}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        found = measure(options, chosen, folder)
    print(f"\n{machine()}, {options.workers} runs at a time of one thread each, seeds {options.seeds}")
    print(f"{'':14s}{'epochs':>8s}{'seconds':>9s}" + "".join(f"{name:>19s}" for name in FIGURES))
    for name, rows in found.items():
        print(_line(name, rows))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), "runs": found}, indent=1) + "\n")


def measure(
    options: argparse.Namespace, chosen: dict[str, dict[str, Any]], folder: Path
) -> dict[str, list[dict[str, float]]]:
    """The figures of every run, by variant."""
    plan = folder / "epochs.json"
    folder.mkdir(parents=True, exist_ok=True)
    epochs = json.loads(plan.read_text()) if plan.is_file() else {}
    epochs |= {name: epochs_of(options, sampler) for name, sampler in chosen.items() if name not in epochs}
    plan.write_text(json.dumps(epochs))
    commands = {}
    for seed in options.seeds:
        for name, sampler in chosen.items():
            config = configuration(options, sampler, seed, epochs[name])
            path = folder / name / f"seed-{seed}"
            recipe = folder / "recipes" / f"{name}-{seed}.yaml"
            recipe.parent.mkdir(exist_ok=True)
            run = config.run.model_copy(update={"root": path.parent, "name": path.name, "keep": 1})
            recipe.write_text(config.model_copy(update={"run": run}).to_yaml())
            log = folder / "logs" / f"{name}-{seed}.log"
            commands[name, seed] = Command(
                f"{name} {seed}", ("search", "-c", str(recipe), "--quiet"), path / RESULT_FILE, log
            )
    failed = run_all(list(commands.values()), options.workers, 1, lambda line: print(line, flush=True))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for (name, seed), command in commands.items():
        if command.name in failed:
            print(f"{command.name} failed: {failed[command.name]}")
            continue
        result = json.loads(command.done.read_text())
        figures = {key: float(value) for key, value in result["gap"].items()}
        found[name].append({"seed": seed, "epochs": epochs[name], "seconds": result["seconds"], **figures})
    return found


def _line(name: str, rows: list[dict[str, float]]) -> str:
    """Means over the seeds, and their standard deviation."""
    line = f"{name:14s}"
    if not rows:
        return line
    line += f"{rows[0]['epochs']:8.0f}{statistics.mean(row['seconds'] for row in rows):9.1f}"
    for figure in FIGURES:
        scale = 1 if figure == "children_variance" else 100
        values = [scale * row[figure] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        line += f"{statistics.mean(values):12.2f} ±{spread:5.2f}"
    return line


if __name__ == "__main__":
    main()
