"""What a step of each method costs on the same supernet: seconds of its alpha and weight update, and peak memory.

    python -m benchmarks.method_cost
    python -m benchmarks.method_cost --space nasbench201 --channels 8 --size 32 --stem plain_half

Peak memory is that of a process of its own for each method. Data are random: only time and memory are measured.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import alternate, peak_gb, print_peak, report
from datanas.data.base import ImageData, ImageSet
from datanas.engine.config import Config, resolve
from datanas.engine.search import SearchJob
from datanas.kernels.hardware import keep_freed_memory
from datanas.tasks import tasks

CPU = torch.device("cpu")
METHODS: dict[str, dict[str, Any]] = {
    "egs": {},
    "darts": {},
    "darts_fd": {"hypergradient": {"kind": "unrolled", "product": "finite_difference"}},
    "darts_exact": {"hypergradient": {"kind": "unrolled", "product": "exact"}},
    "snas": {},
    "gdas": {},
    "gdas_sampled": {"gradient": {"kind": "sampled"}},
    "proxylessnas": {},
    "enas": {},
    "dso_nas": {},
    "pc_darts": {},
    "drnas": {},
    "random": {},
    "evolution": {},
}
"""By name, what differs in the search; the sampler's name is what stands before the underscore."""

SAMPLERS = ("dso_nas", "pc_darts")


def sampler_of(name: str) -> str:
    """The sampler of an entry of METHODS."""
    return name if name in SAMPLERS else name.partition("_")[0]


def configuration(options: argparse.Namespace, name: str) -> Config:
    """The search whose steps are timed."""
    space: dict[str, Any] = {"name": options.space, "channels": options.channels}
    if options.space == "conv_cell":
        space["cells"] = options.cells
    return resolve(
        {
            "seed": options.seed,
            "task": {"stem": options.stem},
            "space": space,
            "sampler": {"name": sampler_of(name)},
            "search": {"batch_size": options.batch, "epochs": 10, **METHODS[name]},
        }
    )


def build(options: argparse.Namespace, name: str) -> SearchJob:
    """A search on random images."""
    torch.manual_seed(options.seed)
    images = torch.randint(256, (40 * options.batch, 3, options.size, options.size), dtype=torch.uint8)
    part = ImageSet(images, torch.arange(len(images)) % 10)
    config = configuration(options, name)
    data = ImageData(part, part, tuple("0123456789"))
    return SearchJob(config, tasks["classification"](config.task, data, CPU, options.seed), CPU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="conv_cell", choices=("conv_cell", "nasbench201"))
    parser.add_argument("--stem", default="cifar")
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", choices=tuple(METHODS), help="some methods alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", choices=tuple(METHODS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.memory_of is not None:
        job, steps = build(options, options.memory_of), count()
        print_peak(lambda: job.step(next(steps)))
        return
    chosen = options.only or list(METHODS)
    jobs = {name: build(options, name) for name in chosen}
    numbers = {name: count() for name in chosen}

    def step(name: str) -> None:
        jobs[name].step(next(numbers[name]))

    seconds = alternate({name: (partial(step, name), 2) for name in chosen}, options.rounds)
    figures: dict[str, Any] = {}
    for name in chosen:
        memory = peak_gb("benchmarks.method_cost", [*_arguments(options), "--memory-of", name])
        figures |= {f"{name}_s": seconds[name], f"{name}_gb": memory}
    report(f"A step of each method: {options.space}, {options.channels} channels", figures, options.json)


def _arguments(options: argparse.Namespace) -> list[str]:
    names = ("space", "stem", "cells", "channels", "batch", "size", "seed", "threads")
    return [text for name in names for text in (f"--{name}", str(getattr(options, name)))]


if __name__ == "__main__":
    main()
