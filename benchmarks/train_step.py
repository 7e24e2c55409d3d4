"""One training step of a fixed network, plain and contiguous against the package's, and compiled where asked.

    python -m benchmarks.train_step                        DARTS' second-order cell, C = 16, 8 cells, batch 96
    python -m benchmarks.train_step --compile              also under torch.compile, which takes minutes to start

Plain is the textbook network: torch's own modules in contiguous layout. Data are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import textbook
from benchmarks.measuring import alternate, peak_gb, print_peak, report
from datanas import architecture, build_network
from datanas.codes.architecture import Architecture
from datanas.engine.steps import update
from datanas.kernels.hardware import keep_freed_memory, move_to
from datanas.spaces.conv_body import reductions

CPU = torch.device("cpu")
CLIP = 5.0


def textbook_network(chosen: Architecture, channels: int, cells: int) -> textbook.Network:
    """The same network from plain modules."""
    operations = {
        name: [(*cell.edges[edge], cell.primitives[op]) for edge, op in zip(*np.nonzero(cell.code), strict=True)]
        for name, cell in chosen.cells.items()
    }
    return textbook.Network(operations, channels, cells, sorted(reductions(cells)), searching=False)


def make_step(options: argparse.Namespace, kind: str) -> Callable[[], None]:
    """A step of one kind: plain, datanas or compiled."""
    torch.manual_seed(options.seed)
    images = torch.randn(options.batch, 3, options.size, options.size)
    labels = torch.randint(10, (options.batch,))
    chosen = architecture(options.cell)
    network: nn.Module
    if kind == "plain":
        network = textbook_network(chosen, options.channels, options.cells)
    else:
        network = move_to(build_network(chosen, channels=options.channels, cells=options.cells), CPU)
        images = images.contiguous(memory_format=torch.channels_last)
    weights = list(network.parameters())
    optimizer = torch.optim.SGD(weights, 0.025, momentum=0.9, weight_decay=3e-4)
    run = torch.compile(network) if kind == "compiled" else network

    def step() -> None:
        update(F.cross_entropy(run(images), labels), weights, optimizer, CLIP, "step")

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="darts_v2", help="a published cell")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5, help="of two plain steps and four of the package")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", choices=["plain", "datanas", "compiled"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.peak_of is not None:
        print_peak(make_step(options, options.peak_of))
        return
    kinds = ["plain", "datanas", *(["compiled"] if options.compile else [])]
    seconds = alternate(
        {kind: (make_step(options, kind), 2 if kind == "plain" else 4) for kind in kinds}, options.rounds
    )
    shape = [
        f"--{name}={getattr(options, name)}"
        for name in ("cell", "channels", "cells", "batch", "size", "threads", "seed")
    ]
    figures: dict[str, float] = {}
    for kind in kinds:
        figures[f"{kind}_images_per_s"] = options.batch / seconds[kind]
        figures[f"{kind}_gb"] = peak_gb("benchmarks.train_step", [*shape, f"--peak-of={kind}"])
    for kind in kinds[1:]:
        figures[f"{kind}_ratio"] = seconds["plain"] / seconds[kind]
    report(
        f"training step: {options.cell}, {options.cells} cells, C = {options.channels}, batch {options.batch} of "
        f"{options.size}x{options.size}, medians of {options.rounds} rounds, seed {options.seed}",
        figures,
        options.json,
    )


if __name__ == "__main__":
    main()
