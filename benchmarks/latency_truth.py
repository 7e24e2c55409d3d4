"""How good cells are that are kept within a bound on latency, by the true accuracies and latencies of NAS-Bench-201.

    python -m benchmarks.latency_truth --root cifar10.npz --table nasbench201.npz --out latency --minutes 25

A cell counts without its dead operations, as networks are built here; the benchmark has that cell too. For each device
an additive table is fitted to the latencies of a few hundred cells. A search without bounds, a seed, is derived from
within every bound; as long as the time allows, each case is also searched with its bound. Of the ranking the first cell
is kept whose own latency, which stands for timing the network, is within the bound. Beside that stand the best cell
within the bound, the mean of all within it and the one with most parameters, of cells without dead parts. What has been
run stays in OUT and is not run again; a table of all that is there is printed, and written to it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.stats import spearmanr

from datanas.budgets.latency_rows import rows_text
from datanas.codes.accuracy_table import AccuracyTable
from datanas.codes.architecture import Architecture
from datanas.codes.liveness import lets_through, live_cell
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.config import resolve
from datanas.engine.derive import derive
from datanas.engine.search import search
from datanas.engine.setup import build_space

BASE: dict[str, Any] = {
    "threads": 1,
    "device": "cpu",
    "data": {"name": "cifar10", "test_images": 1000},
    "task": {"stem": "plain_half"},
    "space": {"name": "nasbench201", "channels": 8, "cells_per_stage": 1},
    "search": {
        "epochs": 2,
        "batch_size": 64,
        "weights": {"lr": 0.05},
        "alpha": {"lr": 0.01},
        "alpha_start": 0.3,
        "gap": {"examples": 1000},
    },
    "train": {"channels": 8, "cells": 3, "batch_size": 64, "auxiliary": False, "drop_path": 0.0},
}
"""As recipes/small/nasbench201.yaml: 780 steps, two passes over CIFAR-10."""
DEVICES = ("1080ti_1", "gold_6226", "samsung_a50", "eyeriss", "fpga")
SHARES = (0.1, 0.25, 0.5, 0.75)
RANKED = 40


class Truth:
    """Accuracy, latency and parameters of every cell, and which are live in all their parts."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as found:
            self.latency = {str(name): found["latency_ms"][:, k] for k, name in enumerate(found["devices"])}
            self.parameters = found["params"]
        self.table = AccuracyTable.load(path)
        self.accuracy = self.table.metrics[self.table.default_metric]
        space = build_space(resolve({"space": {"name": "nasbench201"}}))
        self.group = space.groups()["cell"]
        cells = [Architecture.from_genotype(self.table.string(row)) for row in range(len(self.accuracy))]
        self.live = np.array(
            [self.row(cell) == row and lets_through(cell.cells["cell"]) for row, cell in enumerate(cells)]
        )
        edges, ops = self.group.shape
        order = [self.table.primitives.index(name) for name in self.group.primitives]
        self.codes = np.stack([self.table.codes == op for op in order], axis=2).reshape(-1, edges, ops)

    def row(self, architecture: Architecture) -> int:
        """The row of an architecture without its dead operations."""
        cell = architecture.cells["cell"]
        pruned = replace(architecture, cells={"cell": replace(cell, code=live_cell(cell).code)})
        return self.table.row(pruned)


def fit(truth: Truth, device: str, cells: int, seed: int) -> tuple[str, dict[str, float]]:
    """An additive table of a device as CSV, from the latencies of some cells, and its error on all others."""
    columns = [op for op in range(truth.group.shape[1]) if op != truth.group.null]
    features = truth.codes[:, :, columns].reshape(len(truth.codes), -1).astype(float)
    features = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(truth.live))
    chosen, others = order[:cells], order[cells:]
    weights, _ = nnls(features[chosen], truth.latency[device][chosen].astype(float))
    table = np.zeros(truth.group.shape)
    table[:, columns] = weights[1:].reshape(len(table), -1)
    said, true = features[others] @ weights, truth.latency[device][others]
    errors = {
        "mean relative error": float(np.mean(np.abs(said - true) / true)),
        "rank correlation": float(spearmanr(said, true)[0]),
    }
    return rows_text({"cell": table}, {"cell": truth.group}, float(weights[0])), errors


def keep(run: Path, truth: Truth, device: str, bound: float, table: Path) -> dict[str, Any]:
    """The first of the ranking of a run within a bound whose own latency is."""
    settings = [("budget.latency", bound), ("budget.latency_table", str(table))]
    try:
        ranking = derive(run, n=RANKED, settings=settings).ranking
    except ConfigError as refused:
        return {"error": str(refused)}
    rows = [truth.row(architecture) for architecture, _ in ranking]
    passed = [float(truth.latency[device][row]) > bound for row in rows]
    if all(passed):
        return {"error": f"none of {len(rows)} is within the bound"}
    place = passed.index(False)
    accuracy = float(truth.accuracy[rows[place]])
    return {"accuracy": accuracy, "latency": float(truth.latency[device][rows[place]]), "passed over": place}


def cases(truth: Truth, options: argparse.Namespace) -> Iterator[tuple[str, float, float]]:
    """Device, share of all cells that are as fast, and the bound in milliseconds."""
    for share, device in product(options.shares, options.devices):
        yield device, share, float(np.quantile(truth.latency[device], share))


def controls(truth: Truth, device: str, bound: float) -> dict[str, float]:
    within = np.flatnonzero((truth.latency[device] <= bound) & truth.live)
    largest = within[truth.parameters[within] == truth.parameters[within].max()]
    return {
        "best": float(truth.accuracy[within].max()),
        "random": float(truth.accuracy[within].mean()),
        "largest": float(truth.accuracy[largest].mean()),
        "cells": len(within),
    }


def run_search(options: argparse.Namespace, seed: int, name: str, budget: Mapping[str, Any]) -> Path:
    """The run folder of a search, made if it is not there."""
    place = options.out / name
    if not (place / "result.json").is_file():
        here = {"seed": seed, "run": {"root": str(options.out), "name": name}, "budget": budget}
        search(merge(merge(BASE, {"data": {"root": str(options.root)}}), here), quiet=True)
    return Path(place)


def measure(options: argparse.Namespace, truth: Truth) -> dict[str, Any]:
    found: dict[str, Any] = {"tables": {}, "cases": []}
    tables = {}
    for device in options.devices:
        text, found["tables"][device] = fit(truth, device, options.fit, 0)
        tables[device] = options.out / f"{device}.csv"
        tables[device].write_text(text)
    every: list[dict[str, Any]] = [
        {"device": device, "share": share, "bound": bound, **controls(truth, device, bound), "free": {}, "bounded": {}}
        for device, share, bound in cases(truth, options)
    ]
    for seed, case in product(range(options.seeds), every):
        run = run_search(options, seed, f"free-{seed}", {})
        case["free"][seed] = keep(run, truth, case["device"], case["bound"], tables[case["device"]])
    began = time.monotonic()
    for seed, case in product(range(options.seeds), every):
        name = f"{case['device']}-{case['share']:g}-{seed}"
        if not (options.out / name / "result.json").is_file() and time.monotonic() - began > 60 * options.minutes:
            continue
        table = tables[case["device"]]
        run = run_search(options, seed, name, {"latency": case["bound"], "latency_table": str(table)})
        case["bounded"][seed] = keep(run, truth, case["device"], case["bound"], table)
    found["cases"] = every
    return found


def mean(results: Mapping[int, Mapping[str, Any]]) -> str:
    values = [each["accuracy"] for each in results.values() if "accuracy" in each]
    missing = "" if len(values) == len(results) else f" ({len(results) - len(values)} none)"
    return f"{statistics.mean(values):.2f}{missing}" if values else "-"


def table(found: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["| device | fastest | ms | best | random | largest | derived within | searched within (seeds) |"]
    lines.append("|---" * 8 + "|")
    for case in found["cases"]:
        searched = f"{mean(case['bounded'])} ({len(case['bounded'])})" if case["bounded"] else "-"
        lines.append(
            f"| {case['device']} | {case['share']:.0%} | {case['bound']:.3g} | {case['best']:.2f} | "
            f"{case['random']:.2f} | {case['largest']:.2f} | {mean(case['free'])} | {searched} |"
        )
    return "\n".join(lines)


def summary(found: Mapping[str, Any]) -> str:
    lines = []
    for kind in ("free", "bounded"):
        gains: dict[str, list[float]] = {"best": [], "random": [], "largest": []}
        passed, count = 0, 0
        for case in found["cases"]:
            kept = [each for each in case[kind].values() if "accuracy" in each]
            count += len(kept)
            passed += sum(each["passed over"] > 0 for each in kept)
            for name, gain in gains.items():
                gain += [statistics.mean(each["accuracy"] for each in kept) - case[name]] if kept else []
        if count:
            means = ", ".join(f"{statistics.mean(gain):+.2f} to {name}" for name, gain in gains.items())
            lines.append(f"{kind}: {len(gains['best'])} cases, {count} cells; {means}; {passed} took a later candidate")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="CIFAR-10")
    parser.add_argument("--table", type=Path, required=True, help="nasbench201.npz, with latencies")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--devices", nargs="+", default=DEVICES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, help="of all cells that are as fast")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fit", type=int, default=300, help="cells that a table is fitted to")
    parser.add_argument("--minutes", type=float, default=25.0, help="for searches with bounds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    truth = Truth(options.table)
    found = measure(options, truth)
    text = "\n\n".join([table(found), summary(found), json.dumps(found["tables"], indent=1)])
    (options.out / "found.json").write_text(json.dumps(found, indent=1))
    (options.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
