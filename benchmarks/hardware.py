"""Published cells at ImageNet's size on this machine, beside Table 11 of the paper.

    python -m benchmarks.hardware --threads 1              recipes/paper/hardware.yaml: 14 cells, batch 32 of 224x224
    python -m benchmarks.hardware --cells 3 --size 32      the same, smaller

The networks are timed in turn, round after round; memory is measured in a process of each network's own. The paper's
figures are of a TITAN Xp. What can be compared is the order of the networks: Spearman's rank correlation, over those
whose figure in the paper is known.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import spearmanr

from benchmarks.measuring import machine
from datanas import architecture
from datanas.core.text_table import markdown_table
from datanas.engine.memory import inference_memory
from datanas.engine.network_recipe import NetworkRecipe
from datanas.engine.timing import clock_of, interleaved_ms
from datanas.kernels.hardware import count_parameters, keep_freed_memory, move_to

RECIPE = Path(__file__).parents[1] / "recipes" / "paper" / "hardware.yaml"
COLUMNS = {
    "parameters": ("parameters, M", 2),
    "macs": ("multiply-adds, M", 0),
    "memory": ("memory, GB", 2),
    "latency": ("latency, ms", 1),
}
"""Of the table: what stands above them, and digits."""


def measure(recipe: Mapping[str, Any], rounds: int, threads: int, device: torch.device) -> list[dict[str, float]]:
    """The figures of every network, in the units of the paper."""
    width = height = int(recipe["size"])
    described = [
        NetworkRecipe(
            architecture(row["cell"]),
            options={"stem": recipe["stem"]},
            classes=recipe["classes"],
            network={"channels": recipe["channels"], "cells": recipe["cells"]},
            size=(width, height),
        )
        for row in recipe["networks"]
    ]
    batch = int(recipe["batch"])
    networks = [move_to(each.build(), device).eval() for each in described]
    calls = [
        partial(each.infer, net, each.example(batch, device)) for each, net in zip(described, networks, strict=True)
    ]
    times = np.median(interleaved_ms(calls, rounds, threads=threads, device=device), axis=0)
    found = []
    for each, network, time in zip(described, networks, times, strict=True):
        memory, missing = inference_memory(each, [batch], device, threads)
        if missing:
            print(f"{each.architecture}: {missing}")
        found.append(
            {
                "parameters": count_parameters(network) / 1e6,
                "macs": each.macs() / 1e6,
                "memory": memory.get(batch, float("nan")) / 1e9,
                "latency": float(time),
            }
        )
    return found


def ranks(found: Sequence[Mapping[str, float]], paper: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """For each column Spearman's correlation with the paper's, and over how many networks."""
    result = {}
    for name in COLUMNS:
        pairs = [
            (here[name], there[name]) for here, there in zip(found, paper, strict=True) if there.get(name) is not None
        ]
        rho = spearmanr(*zip(*pairs, strict=True)).statistic if len(pairs) > 2 else float("nan")
        result[name] = float(rho), len(pairs)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, default=RECIPE)
    for name in ("cells", "channels", "size", "batch"):
        parser.add_argument(f"--{name}", type=int, help="in place of the recipe's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recipe = yaml.safe_load(options.config.read_text())
    recipe |= {name: value for name in ("cells", "channels", "size", "batch") if (value := getattr(options, name))}
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    keep_freed_memory()
    found = measure(recipe, options.rounds, options.threads, device)
    paper = [row["paper"] for row in recipe["networks"]]
    rows = [["network", *(f"{title}, {whose}" for title, _ in COLUMNS.values() for whose in ("here", "paper"))]]
    for row, here in zip(recipe["networks"], found, strict=True):
        cells = [row["name"]]
        for name, (_, digits) in COLUMNS.items():
            there = row["paper"].get(name)
            cells += [f"{here[name]:.{digits}f}", "-" if there is None else str(there)]
        rows.append(cells)
    clock = "processor time" if clock_of(device, options.threads).__name__ == "thread_time" else "wall-clock time"
    print(
        f"{recipe['cells']} cells, C = {recipe['channels']}, batch {recipe['batch']} of "
        f"{recipe['size']}x{recipe['size']}, {device}; latency: {clock}, median of {options.rounds} rounds\n"
        f"{machine()}\n"
    )
    print(markdown_table(rows, right=range(1, len(rows[0]))))
    compared = ranks(found, paper)
    for name, (rho, count) in compared.items():
        print(f"ranks of {COLUMNS[name][0].split(',')[0]}: Spearman {rho:.2f} over {count} networks")
    if options.json is not None:
        figures = {row["cell"]: here for row, here in zip(recipe["networks"], found, strict=True)}
        options.json.write_text(
            json.dumps({"networks": figures, "ranks": compared, "machine": machine()}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
