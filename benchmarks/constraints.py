"""Whether the constraint over a whole architecture pays, where every cell is searched for itself.

    python -m benchmarks.constraints --root cifar10.npz --out constraints --seeds 0 1 2

A seed is one search of `conv_stack` with each way of applying the architecture distribution constraint: not at all, to
each probability vector (the default), to the sums over all cells, and to each vector, with more weight the deeper its
cell stands. What is derived becomes as wide as the bound on multiply-adds allows, is trained on the training images and
measured on the test images, which nothing else looks at. Beside it the gap: how far the child that was derived is from
the expectation of the search. Differences are paired by seed. What has been run stays in OUT and is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.equal_size import interval
from datanas.core.settings import merge
from datanas.engine.search import search
from datanas.engine.train import train

BASE: dict[str, Any] = {
    "data": {"name": "cifar10", "train_images": 20_000},
    "task": {"stem": "cifar_half", "train_augment": {"cutout": 0}},
    "space": {"name": "conv_stack", "cells": 5, "channels": 8},
    "search": {
        "epochs": 3,
        "batch_size": 64,
        "alpha_start": 0.1,
        "weights": {"lr": 0.05},
        "alpha": {"lr": 0.03},
        "gap": {"examples": 1000},
        "choice": "derive",
    },
    "train": {
        "max_macs": 1_500_000,
        "cells": 5,
        "epochs": 4,
        "validate_every": 4,
        "batch_size": 96,
        "auxiliary": False,
        "drop_path": 0.0,
        "weights": {"lr": 0.1, "lr_min": 0.0, "weight_decay": 5e-4, "warm_up_epochs": 1.0, "nesterov": True},
    },
    "threads": 1,
}
"""As recipes/small/cifar10.yaml, smaller."""
DEFAULT = "vectors"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "none": {"kind": "none"},
    "architecture": {"over": "architecture"},
    "deeper": {"depth_power": 2.0},
}


def measure(options: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    """Test accuracy and multiply-adds of what a search has derived, and its gap; from its file where that is there."""
    file = Path(options.out) / f"{variant}-{seed}.json"
    if file.is_file():
        known: dict[str, Any] = json.loads(file.read_text())
        return known
    own: dict[str, Any] = {
        "seed": seed,
        "data": {"root": str(options.root)},
        "sampler": {"constraint": VARIANTS[variant]},
        "run": {"root": str(options.out), "name": f"search-{variant}-{seed}"},
    }
    found = search(merge(BASE, own), quiet=True)
    own["run"] = {"root": str(options.out), "name": f"train-{variant}-{seed}"}
    trained = train(found.architecture, merge(BASE, own), quiet=True).evaluation
    assert trained is not None
    measured = {
        "accuracy": round(100 * trained.score, 2),
        "macs": trained.macs,
        "gap": json.loads((found.path / "result.json").read_text())["gap"],
        "cell": found.architecture.to_genotype(),
    }
    file.write_text(json.dumps(measured, indent=1))
    print(variant, seed, measured, flush=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="CIFAR-10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = {seed: {variant: measure(options, variant, seed) for variant in VARIANTS} for seed in options.seeds}
    for variant in VARIANTS:
        scores = [each[variant]["accuracy"] for each in found.values()]
        ahead = [each[variant]["accuracy"] - each[DEFAULT]["accuracy"] for each in found.values()]
        print(variant, f"{statistics.mean(scores):.2f}", "ahead of the default:", interval(ahead))


if __name__ == "__main__":
    main()
