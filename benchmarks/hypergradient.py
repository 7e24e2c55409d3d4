"""How far DARTS' finite difference is from the exact second-order term, and what both cost, on a supernet in training.

    python -m benchmarks.hypergradient --root PATH
    python -m benchmarks.hypergradient --root PATH --steps 0.1 0.01 0.001 0.0001

A DARTS supernet is searched some steps at first order on CIFAR-10; then the term xi <d/dg grad_w L_t, v> is computed
both ways at the same place, for several batches. `step` is the numerator of the finite difference's step / |v|; DARTS
takes 0.01. Medians over the batches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import report
from datanas.core import seeding
from datanas.engine import hypergradient
from datanas.engine.config import resolve
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_task
from datanas.kernels.gates import host_gates
from datanas.kernels.hardware import keep_freed_memory

CPU = torch.device("cpu")


def build(options: argparse.Namespace) -> SearchJob:
    """A search at first order, some steps on."""
    config = resolve(
        {
            "seed": options.seed,
            "data": {"name": "cifar10", "root": str(options.root), "train_images": 5000, "test_images": 1000},
            "task": {"stem": "cifar_half"},
            "space": {"cells": options.cells, "channels": options.channels},
            "sampler": {"name": "darts"},
            "search": {"epochs": 10, "batch_size": options.batch, "alpha": {"lr": 0.01}},
        }
    )
    job = SearchJob(config, load_task(config, CPU), CPU)
    for step in range(options.trained):
        job.step(step)
    return job


def compare(job: SearchJob, number: int, steps: list[float], xi: float) -> dict[str, float]:
    """Both products of one pair of batches, against each other and against the first-order gradient."""
    draw = job.sampler.draw_for_alpha(0.5, seeding.generator(number, "benchmark"))
    gates = host_gates({name: values.detach() for name, values in draw.gates.items()}, CPU)
    batches = job.task.batch("weights", number), job.task.batch("alpha", number)
    problem = hypergradient.SupernetBilevel(job.supernet, job.task, gates, batches, job.weight_optimizer, "float32")
    with seeding.keyed(number, "benchmark"):
        ahead = problem.look_ahead(problem.train_gradient(), xi)
        _, v, direct = problem.validation_gradients(ahead)
        start = time.perf_counter()
        exact = _flat(hypergradient.exact_product(problem, v))
        found = {"exact_s": time.perf_counter() - start}
        found["term_of_direct"] = float(xi * exact.norm() / _flat(direct).norm())
        for step in steps:
            hypergradient.STEP = step
            start = time.perf_counter()
            other = _flat(hypergradient.finite_difference_product(problem, v))
            found["difference_s"] = time.perf_counter() - start
            found[f"cosine_{step:g}"] = float(torch.cosine_similarity(exact, other, dim=0))
            found[f"error_{step:g}"] = float((other - exact).norm() / exact.norm())
    return found


def _flat(tables: list[Tensor]) -> Tensor:
    return torch.cat([table.flatten() for table in tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--trained", type=int, default=100, help="steps of the search before")
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--steps", type=float, nargs="+", default=[1.0, 0.1, 0.01, 0.001])
    parser.add_argument("--xi", type=float, default=0.025)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    job = build(options)
    rows = [compare(job, number, options.steps, options.xi) for number in range(options.batches)]
    figures: dict[str, Any] = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    report("The second-order term, finite difference against exact", figures, options.json)


if __name__ == "__main__":
    main()
