"""How good kept cells are beside random cells of exactly their size, by the true accuracies of NAS-Bench-201.

    python -m benchmarks.equal_size --root cifar10.npz --table nasbench201.npz --out equal --seeds 20 21 22 23 24

Large cells are good ones on this table, so a cell that is larger than another proves little. One search a seed, without
bounds, is derived from within the multiply-adds of one to five 3x3 convolutions a cell. What is kept is compared with
all live cells of as many parameters, which are those of as many multiply-adds, too: with their mean, which is what a
random cell of that size has; with the best of four of them, drawn by chance and chosen by the true accuracy itself,
which no training could do better; and with the best there is. `start` keeps cells by the scores that alpha starts from,
without one step of gradient, `flat` searches without these scores, `long` makes 20 passes in place of two. What has
been run stays in OUT and is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student

from benchmarks.latency_truth import BASE, Truth
from datanas.codes.architecture import Architecture
from datanas.codes.benchmark_text import print_operations
from datanas.core.settings import merge
from datanas.engine.budget import Budget, recorded
from datanas.engine.config import resolve
from datanas.engine.derive import derive
from datanas.engine.search import search

VARIANTS: dict[str, dict[str, Any]] = {
    "egs": {},
    "flat": {"sampler": {"prior": {"children": 0}}},
    "start": {"search": {"epochs": 1, "examples": 4000, "alpha_start": 0.999}},
    "long": {"search": {"epochs": 20}},
    "flat_long": {"sampler": {"prior": {"children": 0}}, "search": {"epochs": 20}},
}
"""What differs from the recipe. `start` ends with P as it began, so few images do."""
CONVOLUTIONS = (1, 2, 3, 4, 5)


def run_search(options: argparse.Namespace, variant: str, seed: int) -> Path:
    """The run folder of a search, made if it is not there."""
    folder = Path(options.out) / f"{variant}-{seed}"
    if not (folder / "result.json").is_file():
        here = {
            "seed": seed,
            "data": {"root": str(options.root)},
            "run": {"root": str(options.out), "name": folder.name},
        }
        search(merge(merge(BASE, VARIANTS[variant]), here), quiet=True)
    return folder


def bounds(run: Path) -> dict[int, float]:
    """Multiply-adds of networks whose cells have one to five 3x3 convolutions, and skip connections beside."""
    config = resolve(merge(BASE, {"budget": {"macs": 1e12}, "data": {"root": str(run)}}))
    budget = Budget(config, recorded(config, run))
    counted = {}
    for count in CONVOLUTIONS:
        text = print_operations(["nor_conv_3x3"] * count + ["skip_connect"] * (6 - count))
        counted[count] = budget.costs(Architecture.from_genotype(text))["macs"]
    return counted


def best_of(values: NDArray[np.float64], draws: int) -> float:
    """The expected largest of `draws` values that are drawn with replacement."""
    ranks = np.arange(len(values) + 1) / len(values)
    return float(np.sum(np.sort(values) * np.diff(ranks**draws)))


def keep(truth: Truth, run: Path, bound: float) -> dict[str, float]:
    """The likeliest cell within a bound, beside all live ones of its parameters."""
    ranking = derive(run, n=1, settings=[("budget.macs", bound)]).ranking
    row = truth.row(ranking[0][0])
    same = truth.accuracy[truth.live & (truth.parameters == truth.parameters[row])]
    own = float(truth.accuracy[row])
    return {
        "kept": own,
        "parameters": int(truth.parameters[row]),
        "cells": len(same),
        "random": float(same.mean()),
        "best of 4": best_of(same, 4),
        "best": float(same.max()),
        "better than": float(np.mean(same < own)),
    }


def measure(options: argparse.Namespace, truth: Truth) -> dict[str, Any]:
    """By variant and number of convolutions, what each seed keeps."""
    found: dict[str, Any] = {}
    for variant in options.variants:
        runs = {seed: run_search(options, variant, seed) for seed in options.seeds}
        limits = bounds(runs[options.seeds[0]])
        found[variant] = {
            str(count): {str(seed): keep(truth, run, bound) for seed, run in runs.items()}
            for count, bound in limits.items()
        }
    return found


def interval(values: Sequence[float]) -> str:
    """A mean with Student's 95 % interval."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.2f}"
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def ahead(cases: Mapping[str, Mapping[str, Any]], control: str) -> str:
    """How far what is kept is ahead, the mean over the bounds of each seed, with an interval over the seeds."""
    seeds = list(next(iter(cases.values())))
    return interval(
        [statistics.mean(case[seed]["kept"] - case[seed][control] for case in cases.values()) for seed in seeds]
    )


def table(found: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["| | 3x3 convolutions | kept | random | best of 4 | best | better than | ahead of random |"]
    lines.append("|---|" + "---:|" * 7)
    for variant, cases in found.items():
        for count, case in cases.items():
            columns = ["kept", "random", "best of 4", "best"]
            means = " | ".join(f"{statistics.mean(each[name] for each in case.values()):.2f}" for name in columns)
            rank = statistics.mean(each["better than"] for each in case.values())
            gain = interval([each["kept"] - each["random"] for each in case.values()])
            lines.append(f"| {variant} | {count} | {means} | {rank:.0%} | {gain} |")
    for variant, cases in found.items():
        gains = ", ".join(f"{ahead(cases, control)} to {control}" for control in ("random", "best of 4"))
        lines.append(f"\n{variant}, all bounds: {gains}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="CIFAR-10")
    parser.add_argument("--table", type=Path, required=True, help="nasbench201.npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20, 30)))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["egs", "start"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = measure(options, Truth(options.table))
    (options.out / "equal_size.json").write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
