"""Which settings of the `egs` sampler are the best default: a search and a retraining for each, over several seeds.

    python -m benchmarks.sampler_defaults --seeds 0 1 --json FILE
    python -m benchmarks.sampler_defaults --problem nasbench201 --root PATH --epochs 10 30 --json FILE

Everything is measured on training images only: the gap on the alpha part of the search, the retrained network on a
held-out fifth. The test set is not read for any choice, and no table of accuracies either. Each length in `--epochs` is
a search of its own, so that what helps for a while can be told from what lasts.

The retrained networks of a problem all start from the same seed, so that a cell found twice is trained once and cells
differ in nothing but themselves. A random cell for each seed is trained beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.settings import merge
from datanas.engine.config import Config, resolve
from datanas.engine.random_cells import random_cells
from datanas.engine.search import search
from datanas.engine.setup import load_task, select_device
from datanas.engine.train import TrainJob
from datanas.runs.metrics import read_metrics

L1 = {"kind": "l1", "gamma": 1e-3}
L1_MEAN = {"kind": "l1", "gamma": 0.1, "reduction": "mean"}
NORMALISED = {**L1_MEAN, "target": "normalised"}
ENTROPY = {"kind": "entropy", "gamma": 1e-2}
NONE = {"kind": "none"}

VARIANTS: dict[str, dict[str, Any]] = {
    "node sum none": {"scope": "node", "normalise": "sum", "constraint": NONE},
    "node mean none": {"scope": "node", "normalise": "mean", "constraint": NONE},
    "node sum l1": {"scope": "node", "normalise": "sum", "constraint": L1},
    "node mean l1": {"scope": "node", "normalise": "mean", "constraint": L1},
    "node sum l1 mean": {"scope": "node", "normalise": "sum", "constraint": L1_MEAN},
    "node mean l1 mean": {"scope": "node", "normalise": "mean", "constraint": L1_MEAN},
    "node mean l1 normalised": {"scope": "node", "normalise": "mean", "constraint": NORMALISED},
    "node sum l1 normalised": {"scope": "node", "normalise": "sum", "constraint": NORMALISED},
    "node sum l1 x10": {"scope": "node", "normalise": "sum", "constraint": {**L1, "gamma": 1e-2}},
    "node sum entropy": {"scope": "node", "normalise": "sum", "constraint": ENTROPY},
    "node mean entropy": {"scope": "node", "normalise": "mean", "constraint": ENTROPY},
    "edge sum l1": {"scope": "edge", "normalise": "sum", "constraint": L1},
    "edge mean l1": {"scope": "edge", "normalise": "mean", "constraint": L1},
    "edge mean entropy": {"scope": "edge", "normalise": "mean", "constraint": ENTROPY},
    "preset official": {"preset": "official"},
    "node mean entropy, alpha from scores": {"normalise": "mean", "constraint": ENTROPY, "prior": {}},
}
FLAT = {"prior": {"children": 0}}
"""Where alpha starts in all others (docs/default.md)."""

PROBLEMS: dict[str, dict[str, Any]] = {
    "photos": {
        "data": {"name": "photos"},
        "task": {"stem": "cifar_half", "train_augment": {"cutout": 8}},
        "space": {"cells": 3, "channels": 8},
        "search": {
            "epochs": 16,
            "examples": 2000,
            "weights": {"lr": 0.05},
            "alpha": {"lr": 0.05},
            "alpha_start": 0.1,
            "gap": {"every": 16, "children": 8, "examples": None},
        },
        "train": {
            "channels": 16,
            "cells": 5,
            "epochs": 4,
            "batch_size": 64,
            "auxiliary": False,
            "drop_path": 0.0,
            "validation": 0.2,
            "validate_every": 4,
            "weights": {"lr": 0.1, "warm_up_epochs": 1.0},
        },
    },
    "nasbench201": {
        "data": {"name": "cifar10", "train_images": 10000},
        "task": {"stem": "plain_half"},
        "space": {"name": "nasbench201", "channels": 8, "cells_per_stage": 1},
        "search": {
            "epochs": 20,
            "examples": 5000,
            "batch_size": 64,
            "weights": {"lr": 0.05},
            "alpha": {"lr": 0.01},
            "gap": {"every": 1000, "children": 4, "examples": 1000},
        },
        "train": {
            "channels": 8,
            "cells": 3,
            "epochs": 10,
            "batch_size": 64,
            "auxiliary": False,
            "drop_path": 0.0,
            "validation": 0.2,
            "validate_every": 10,
            "weights": {"lr": 0.1, "warm_up_epochs": 1.0},
        },
    },
}


class Retrained:
    """Networks of one problem, trained from the same seed; what was trained once is remembered."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: dict[str, float] = {}

    def __call__(self, architecture: Architecture) -> float:
        """The accuracy on the held-out training images, in per cent."""
        key = json.dumps([*(code.tolist() for code in architecture.code.values()), architecture.aggregate])
        if key not in self._known:
            device = select_device(self._config)
            job = TrainJob(self._config, architecture, load_task(self._config, device), device)
            for step in range(job.epochs * job.steps_per_epoch):
                job.step(step)
            report = job.end_epoch(job.epochs, {"loss": 0.0})
            self._known[key] = report.figures["validation/accuracy"]
        return self._known[key]


def measure(base: dict[str, Any], chosen: dict[str, Any], retrained: Retrained) -> dict[str, float]:
    """One search and one retraining."""
    with tempfile.TemporaryDirectory() as folder:
        config = resolve(merge(base, merge(chosen, {"run": {"root": folder}})))
        start = time.perf_counter()
        found = search(config, quiet=True)
        seconds = time.perf_counter() - start
        last = read_metrics(found.path)[-1]
    flatness = [value for key, value in last.items() if key.startswith("flatness/")]
    return {
        "supernet": last["gap/supernet"],
        "children": last["gap/children_mean"],
        "variance": last["gap/children_variance"],
        "kept": last["gap/child"],
        "log_prob": last["derived/log_prob"],
        "flatness": statistics.mean(flatness),
        "operations": float(sum(int(code.sum()) for code in found.architecture.code.values())),
        "retrained": retrained(found.architecture),
        "search_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="photos", choices=list(PROBLEMS))
    parser.add_argument("--root", type=Path, help="folder of the data, where the problem needs one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", help="of the search; each is a search of its own")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--alpha-start", type=float, nargs="+", help="share of the search in which alpha rests")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = merge(PROBLEMS[options.problem], {"data": {"root": str(options.root)}} if options.root else {})
    settings = resolve(base)
    lengths = options.epochs or [settings.search.epochs]
    starts = options.alpha_start or [settings.search.alpha_start]
    retrained = Retrained(settings)
    rows: dict[str, list[dict[str, float]]] = {}

    def keep(seed: int, name: str, figures: dict[str, float]) -> None:
        rows.setdefault(name, []).append(figures)
        print(
            f"seed {seed}  {name:34s} " + "  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True
        )
        if options.json is not None:
            options.json.write_text(json.dumps(rows, indent=1))

    for seed in options.seeds:
        (cell,) = random_cells(settings, 1, torch.Generator().manual_seed(seed))
        keep(seed, "random cell", {"retrained": retrained(cell)})
        for length in lengths:
            for start in starts:
                for name in options.variants:
                    sampler = {"samples": options.samples, **FLAT, **VARIANTS[name]}
                    chosen = {"seed": seed, "sampler": sampler, "search": {"epochs": length, "alpha_start": start}}
                    keep(seed, f"{name}, {length} epochs, {start:g}", measure(base, chosen, retrained))
    print(f"\nmean over the seeds {options.seeds}")
    for name, runs in rows.items():
        means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        print(f"{name:34s}" + "  ".join(f"{key} {value:.3f}" for key, value in means.items()))


if __name__ == "__main__":
    main()
