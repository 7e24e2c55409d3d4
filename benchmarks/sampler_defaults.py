"""Which settings of the `egs` sampler are the best default: a search and a retraining for each, over several seeds.

    python -m benchmarks.sampler_defaults --seeds 0 1 --json FILE

Everything is measured on training images only: the gap on the alpha part of the search, the retrained network on a
held-out fifth. The test set is not read for any choice.
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

from datanas.config import merge
from datanas.engine.config import resolve
from datanas.engine.search import search
from datanas.engine.setup import load_task, select_device
from datanas.engine.train_job import TrainJob
from datanas.runs.metrics import read_metrics

L1 = {"kind": "l1", "gamma": 1e-3}
ENTROPY = {"kind": "entropy", "gamma": 1e-2}

VARIANTS: dict[str, dict[str, Any]] = {
    "node sum l1": {"normalise": "sum", "constraint": L1},
    "node mean l1": {"constraint": L1},
    "node sum none": {"normalise": "sum", "constraint": {"kind": "none"}},
    "node sum l1 x10": {"normalise": "sum", "constraint": {**L1, "gamma": 1e-2}},
    "node sum entropy": {"normalise": "sum", "constraint": ENTROPY},
    "node mean entropy": {"normalise": "mean", "constraint": ENTROPY},
    "edge sum l1": {"scope": "edge", "normalise": "sum", "constraint": L1},
    "edge mean l1": {"scope": "edge", "constraint": L1},
    "edge mean entropy": {"scope": "edge", "constraint": ENTROPY},
    "preset official": {"preset": "official"},
}

BASE: dict[str, Any] = {
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
}


def measure(sampler: dict[str, Any], seed: int, samples: int, folder: Path) -> dict[str, float]:
    """One search and one retraining."""
    raw = merge(BASE, {"seed": seed, "sampler": {"samples": samples, **sampler}, "run": {"root": str(folder)}})
    config = resolve(raw)
    start = time.perf_counter()
    found = search(config, quiet=True)
    seconds = time.perf_counter() - start
    last = read_metrics(found.path)[-1]
    device = select_device(config)
    job = TrainJob(config, found.architecture, load_task(config, device), device)
    for step in range(job.epochs * job.steps_per_epoch):
        job.step(step)
    report = job.end_epoch(job.epochs, {"loss": 0.0})
    return {
        "supernet": last["gap/supernet"],
        "children": last["gap/children_mean"],
        "variance": last["gap/children_variance"],
        "kept": last["gap/child"],
        "log_prob": last["derived/log_prob"],
        "flatness": (last["flatness/normal"] + last["flatness/reduce"]) / 2,
        "operations": float(sum(int(code.sum()) for code in found.architecture.code.values())),
        "retrained": report.figures["validation/accuracy"],
        "search_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: dict[str, list[dict[str, float]]] = {}
    columns: list[str] = []
    for seed in options.seeds:
        for name in options.variants:
            with tempfile.TemporaryDirectory() as folder:
                rows.setdefault(name, []).append(measure(VARIANTS[name], seed, options.samples, Path(folder)))
            columns = list(rows[name][-1])
            figures = "  ".join(f"{key} {value:.3f}" for key, value in rows[name][-1].items())
            print(f"seed {seed}  {name:26s} {figures}", flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps(rows, indent=1))
    print(f"\nmean over the seeds {options.seeds}\n{'':26s}" + "".join(f"{column:>12s}" for column in columns))
    for name, runs in rows.items():
        means = [statistics.mean(run[column] for run in runs) for column in columns]
        print(f"{name:26s}" + "".join(f"{mean:12.3f}" for mean in means))


if __name__ == "__main__":
    main()
