"""What several processes cost and what they would bring: measured with two here, calculated for more.

    python -m benchmarks.processes --json FILE

Measured on random images, one thread a process, each process with a whole batch of its own (weak scaling):
- a search step (both updates) of one process alone, and of two that exchange over loopback (Gloo);
- the numbers that a step exchanges: gradients of the operations that are open, running statistics, alphas;
- the exchange alone, of as many numbers.

Calculated, not measured, for 1, 8, 64 and 512 processes: the measured step of one process plus a ring exchange,
2 (n - 1) / n times the bytes over the bandwidth plus 2 (n - 1) times the latency, nothing of it hidden behind the
backward pass. Bandwidths and latencies are assumptions; --step puts in a step that was measured elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import report
from datanas.core.joining import join
from datanas.core.processes import ALONE, Processes
from datanas.data.base import ImageData, ImageSet
from datanas.engine.config import resolve
from datanas.engine.search import SearchJob
from datanas.tasks import tasks

LINKS = {
    "1 Gb/s Ethernet": (0.125e9, 50e-6),
    "25 Gb/s Ethernet": (3.1e9, 20e-6),
    "200 Gb/s InfiniBand": (25e9, 5e-6),
}
"""Bytes a second and seconds of latency."""
COUNTS = (1, 8, 64, 512)


class Counting(Processes):
    """One process that counts what it would exchange."""

    def __init__(self, inner: Processes) -> None:
        self.inner = inner
        self.rank, self.size = inner.rank, max(inner.size, 2)
        self.bytes: list[int] = []

    def share(self, count: int) -> slice:
        return slice(0, count)

    def average(self, tensors: Any) -> None:
        self.bytes.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors))


def make_job(options: argparse.Namespace, processes: Processes) -> SearchJob:
    """A search on random images of CIFAR-10's size; its batch is that of all processes."""
    count = options.batch * max(processes.size, 2) * 4
    generator = torch.Generator().manual_seed(options.seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 10
    data = ImageData(ImageSet(images, labels), ImageSet(images[:20], labels[:20]), tuple(map(str, range(10))))
    config = resolve(
        {
            "seed": options.seed,
            "space": {"cells": options.cells, "channels": options.channels},
            "sampler": {"samples": options.samples},
            "search": {"batch_size": options.batch * processes.size, "epochs": 100},
        }
    )
    task = tasks["classification"](config.task, data, torch.device("cpu"), config.seed)
    task.processes = processes
    return SearchJob(config, task, torch.device("cpu"), processes)


def timed_steps(job: SearchJob, times: int) -> float:
    """Median seconds of a step."""
    found = []
    for step in range(times + 2):
        start = time.perf_counter()
        job.step(step)
        found.append(time.perf_counter() - start)
    return statistics.median(found[2:])


def work(options: argparse.Namespace) -> dict[str, float]:
    """What one of two processes measures."""
    processes = join("cpu", 1, 1, 120.0)
    assert processes.size == 2
    found = {"step_s": timed_steps(make_job(options, processes), options.steps)}
    block: list[Tensor] = [torch.ones(options.exchange // 4)]
    seconds = []
    for _ in range(options.steps + 2):
        start = time.perf_counter()
        processes.average(block)
        seconds.append(time.perf_counter() - start)
    return {**found, "exchange_s": statistics.median(seconds[2:])}


def measure_two(options: argparse.Namespace, exchanged: int) -> dict[str, float]:
    """Start two processes and take the slower one's figures."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.processes", "--worker", f"--exchange={exchanged}"]
    command += [
        f"--{name}={getattr(options, name)}" for name in ("batch", "cells", "channels", "samples", "steps", "seed")
    ]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"TORCHELASTIC_RUN_ID": "benchmark", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    figures = [json.loads(each.communicate()[0].splitlines()[-1]) for each in running]
    return {name: max(each[name] for each in figures) for name in figures[0]}


def predicted(step: float, exchanged: float, count: int, bandwidth: float, latency: float) -> float:
    """Seconds of a step with a ring exchange, nothing hidden."""
    return step + 2 * (count - 1) / count * exchanged / bandwidth + 2 * 2 * (count - 1) * latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="of one process")
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="measured, after two that are not")
    parser.add_argument("--step", type=float, help="seconds of a step, measured elsewhere, for the calculation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        print(json.dumps(work(options)))
        return
    counting = Counting(ALONE)
    job = make_job(options, counting)
    for step in range(options.steps):
        job.step(step)
    exchanged = sum(counting.bytes) // options.steps
    whole = sum(parameter.numel() * parameter.element_size() for parameter in job.supernet.parameters())
    alone = timed_steps(make_job(options, ALONE), options.steps)
    two = measure_two(options, exchanged)
    figures: dict[str, Any] = {
        "exchanged_mb": exchanged / 1e6,
        "supernet_mb": whole / 1e6,
        "alone_step_s": alone,
        "two_step_s": two["step_s"],
        "two_efficiency_percent": 100 * alone / two["step_s"],
        "two_exchange_s": two["exchange_s"],
    }
    given = alone if options.step is None else options.step
    for link, (bandwidth, latency) in LINKS.items():
        for count in COUNTS:
            figures[f"{count} processes, {link}"] = predicted(given, exchanged, count, bandwidth, latency)
    title = (
        f"processes: {options.cells} cells, C = {options.channels}, M = {options.samples}, batch {options.batch} a "
        f"process, median of {options.steps} steps, seed {options.seed}"
    )
    report(title, figures, options.json)


if __name__ == "__main__":
    main()
