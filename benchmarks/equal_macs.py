"""How good kept cells are beside random ones of as many multiply-adds, trained alike from scratch.

    python -m benchmarks.equal_macs --root cifar10.npz --out macs --seeds 50 51 52 53

A seed is one search, of NAS-Bench-201's space on all training images of CIFAR-10 (two passes) or as a recipe says, from
which a race with a bound on multiply-adds would take the likeliest cell and the likeliest within shares of its
multiply-adds; and random cells whose networks let something through. Each becomes as wide as the bound allows, so that
a cell of few operations is a wide one, and is trained on the training images and measured on the test images, which
nothing else looks at. The random cells of a seed count as their mean, and differences are paired by seed. What has been
run stays in OUT and is not run again.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.equal_size import interval
from benchmarks.latency_truth import BASE
from datanas.codes.architecture import Architecture
from datanas.core.settings import merge
from datanas.engine.config import resolve
from datanas.engine.search import search
from datanas.engine.train import train
from datanas.racing.candidates import random_candidates, searched

TRAINING = {
    "channels": 8,
    "cells": 3,
    "batch_size": 96,
    "epochs": 3,
    "validate_every": 3,
    "weights": {"lr": 0.1, "lr_min": 0.0, "warm_up_epochs": 1.0},
}
IN_NASBENCH201 = merge(
    BASE, {"data": {"test_images": None}, "train": TRAINING, "task": {"train_augment": {"cutout": 0}}}
)
FREE, RANDOM = "searched: likeliest", "random"


def settings(options: argparse.Namespace, seed: int, name: str) -> dict[str, Any]:
    """Of a search and of a training."""
    base = IN_NASBENCH201 if options.recipe is None else yaml.safe_load(options.recipe.read_text())
    train: dict[str, Any] = {"max_macs": options.macs}
    if options.epochs is not None:
        train |= {"epochs": options.epochs, "validate_every": options.epochs}
    own = {
        "seed": seed,
        "threads": 1,
        "data": {} if options.root is None else {"root": str(options.root)},
        "search": {"choice": "derive"},
        "run": {"root": str(options.out), "name": name},
        "train": train,
    }
    return merge(base, own)


def cells(options: argparse.Namespace, seed: int) -> dict[str, Architecture]:
    """The cells that the search of a seed names, collapsed or not, and random ones that are none of these."""
    here = settings(options, seed, f"search-{seed}")
    run = search(here, quiet=True).path
    kept = {}
    for candidate in searched(run, is_named=False, smaller=True):
        kept[candidate.origin] = candidate.architecture
        if candidate.origin == FREE:
            break
    digests = {cell.digest for cell in kept.values()}
    drawn = (each.architecture for each in random_candidates(resolve(here)))
    others = islice((cell for cell in drawn if cell.digest not in digests), options.random)
    return {**kept, **{f"{RANDOM} {index}": cell for index, cell in enumerate(others)}}


def measure(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Test accuracy in % and multiply-adds of each network of a seed; from its file where that is there."""
    file = Path(options.out) / f"seed-{seed}.json"
    if file.is_file():
        known: dict[str, Any] = json.loads(file.read_text())
        return known
    found: dict[str, Any] = {}
    for number, (name, cell) in enumerate(cells(options, seed).items()):
        result = train(cell, settings(options, seed, f"train-{seed}-{number}"), quiet=True).evaluation
        assert result is not None
        found[name] = {"accuracy": 100 * result.score, "macs": result.macs, "cell": cell.to_genotype()}
        print(seed, name, f"{100 * result.score:.2f}", f"{result.macs / 1e6:.2f} M", cell.to_genotype(), flush=True)
    file.write_text(json.dumps(found, indent=1))
    return found


def ahead(seeds: Sequence[Mapping[str, Any]], kept: str) -> list[float]:
    """Of each seed, how far a kept cell is ahead of the random ones."""
    return [
        found[kept]["accuracy"] - statistics.mean(found[name]["accuracy"] for name in _random(found)) for found in seeds
    ]


def summary(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """What docs/results keeps: accuracies and multiply-adds of each row by seed, those of random cells in lists."""
    seeds = list(found.values())
    kept = {_short(name): name for name in _kept(seeds)}

    def of(key: str, digits: int | None) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = {
            short: [round(each[name][key], digits) for each in seeds] for short, name in kept.items()
        }
        return {**rows, RANDOM: [[round(each[name][key], digits) for name in _random(each)] for each in seeds]}

    accuracy = of("accuracy", 2)
    random = accuracy.pop(RANDOM)
    return {"seeds": list(found), "kept": accuracy, "random": random, "macs": of("macs", None)}


def _kept(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    """What every seed has kept; of some searches no cell is within a share."""
    return [name for name in seeds[0] if not name.startswith(RANDOM) and all(name in found for found in seeds)]


def _random(found: Mapping[str, Any]) -> list[str]:
    return [name for name in found if name.startswith(RANDOM)]


def _short(name: str) -> str:
    share = re.search(r"within (\d+)%", name)
    return FREE.rpartition(" ")[2] if share is None else f"within {share[1]} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="CIFAR-10, or the data of the recipe")
    parser.add_argument("--recipe", type=Path, help="of search and training; NAS-Bench-201's space without")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(50, 58)))
    parser.add_argument("--random", type=int, default=2, help="random cells of a seed")
    parser.add_argument("--macs", type=int, default=3_000_000)
    parser.add_argument("--epochs", type=int, help="of a training; 3, or those of the recipe")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = {seed: measure(options, seed) for seed in options.seeds}
    (options.out / "equal_macs.json").write_text(json.dumps(summary(found), indent=1))
    for kept in _kept(list(found.values())):
        print(f"{kept}, ahead of random cells:", interval(ahead(list(found.values()), kept)))


if __name__ == "__main__":
    main()
