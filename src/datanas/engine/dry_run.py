"""What a run will cost, from one measured step: nothing is written."""

from __future__ import annotations

import time
from itertools import count

import torch

from datanas.architecture import Architecture
from datanas.engine.config import Config, as_trained
from datanas.engine.loop import Job
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_task, memory_errors, select_device
from datanas.engine.starting import starting_weights
from datanas.engine.train_job import TrainJob
from datanas.engine.width import with_width
from datanas.hardware import count_macs, count_parameters, median_seconds, peak_memory

WARM_UP, REPEATS = 2, 3


def estimate_search(config: Config) -> str:
    """Parameters, expected multiply-adds, memory, one measured step and the estimated time of a whole search."""
    with memory_errors():
        device = select_device(config)
        job = SearchJob(config, load_task(config, device), device)
        step, measure = measure_job(job, device)
    settings = config.search
    measured = -(-settings.epochs // settings.gap.every)
    costs = job.expected_costs()
    return "\n".join(
        [
            f"supernet            {count_parameters(job.supernet):,} parameters",
            f"sampled operations  {costs['parameters']:,.0f} parameters, {costs['macs'] / 1e6:.1f} M multiply-adds "
            f"{job.task.one()}, on average",
            *_times(job, step, measure, measured, device),
        ]
    )


def estimate_train(config: Config, architecture: Architecture) -> str:
    """Parameters, multiply-adds, memory, one measured step and the estimated time of a whole training."""
    config = as_trained(config, architecture)
    with memory_errors():
        device = select_device(config)
        task = load_task(config, device)
        config = with_width(architecture, config, task)
        start = starting_weights(config)
        job = TrainJob(config, architecture, task, device, start=start)
        step, measure = measure_job(job, device)
    measured = -(-config.train.epochs // config.train.validate_every)
    return "\n".join(
        [
            f"network             {config.train.channels} channels, {count_parameters(job.network):,} parameters, the "
            "auxiliary tower included",
            f"multiply-adds       {count_macs(job.network, job.task.example()) / 1e6:,.1f} M {job.task.one()}",
            *_times(job, step, measure, measured, device),
        ]
    )


def measure_job(job: Job, device: torch.device) -> tuple[float, float]:
    """Seconds of a step, and of the measurements after an epoch; the job is thrown away afterwards."""
    steps = count(max(0, job.epochs * job.steps_per_epoch - job.steps_per_epoch))

    def turn() -> None:
        for _ in range(job.turn):
            job.step(next(steps))

    step = median_seconds(turn, device, warm_up=WARM_UP, repeats=REPEATS) / job.turn
    start = time.perf_counter()
    job.end_epoch(job.epochs, {"loss": 0.0})
    return step, time.perf_counter() - start


def _times(job: Job, step: float, measure: float, measured: int, device: torch.device) -> list[str]:
    total = job.length
    seconds = total * step + measured * measure
    hours, rest = divmod(round(seconds), 3600)
    return [
        f"memory              {peak_memory(device) / 2**30:.2f} GiB at the highest point so far ({device})",
        f"one step            {step:.3f} s, median of {REPEATS} after {WARM_UP}",
        f"measuring           {measure:.1f} s, {measured} times",
        f"whole run           {total:,} steps in {job.epochs} epochs, about {hours}:{rest // 60:02d}:{rest % 60:02d} h",
    ]
