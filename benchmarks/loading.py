"""The share of a search step and of a training step that goes into preparing batches.

    python -m benchmarks.loading --json FILE                    the embedded photographs
    python -m benchmarks.loading --cifar10 PATH                 also CIFAR-10; PATH as for data.root (docs/data.md)

Preparing is `Task.batch`: choosing the images, augmenting and normalising them. The settings are those of
recipes/small; only that alpha is updated from the first step on, so that every search step takes two batches. Training
is of a published cell. The share is of torch.profiler's time; images per second are taken without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.measuring import report
from datanas import architecture
from datanas.engine.config import Config, resolve
from datanas.engine.loop import Job
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_task, select_device
from datanas.engine.train import TrainJob
from datanas.kernels.hardware import median_seconds
from datanas.tasks.base import Part, Task

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "small"
PARTS: dict[str, tuple[Part, ...]] = {"search": ("alpha", "weights"), "train": ("train",)}
"""The batches of one step."""
STEP, PREPARING = "benchmark: step", "benchmark: preparing"


def load(recipe: str, options: argparse.Namespace) -> Config:
    """A recipe's configuration, on the CPU."""
    overrides: list[tuple[str, object]] = [
        ("device", "cpu"),
        ("threads", options.threads),
        ("seed", options.seed),
        ("search.alpha_start", 0.0),
    ]
    if recipe == "cifar10":
        overrides.append(("data.root", options.cifar10))
    return resolve(RECIPES / f"{recipe}.yaml", overrides)


def make_job(kind: str, config: Config, task: Task[Any], cell: str) -> Job:
    device = select_device(config)
    return SearchJob(config, task, device) if kind == "search" else TrainJob(config, architecture(cell), task, device)


class Counter:
    """Calls something with the number of the call."""

    def __init__(self, call: Callable[[int], object]) -> None:
        self.call, self.number = call, 0

    def __call__(self) -> None:
        self.call(self.number)
        self.number += 1


def profiled_share(step: Callable[[], None], task: Task[Any], times: int) -> float:
    """Preparing's share of the profiler's time for `times` steps; `task` stays wrapped."""
    batch = task.batch

    def marked(part: Part, step: int) -> Any:
        with record_function(PREPARING):
            return batch(part, step)

    task.batch = marked
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(times):
            with record_function(STEP):
                step()
    spent = {event.key: event.cpu_time_total for event in profiler.key_averages()}
    return float(spent[PREPARING] / spent[STEP])


def measure(kind: str, config: Config, options: argparse.Namespace) -> dict[str, float]:
    """Figures of one kind of step."""
    device = torch.device("cpu")
    task = load_task(config, device)
    step = Counter(make_job(kind, config, task, options.cell).step)
    parts: Sequence[Part] = PARTS[kind]

    def prepare(number: int) -> None:
        for part in parts:
            task.batch(part, number)

    images = len(parts) * (config.search if kind == "search" else config.train).batch_size
    step_s = median_seconds(step, device, warm_up=options.warm_up, repeats=options.steps)
    preparing_s = median_seconds(Counter(prepare), device, warm_up=options.warm_up, repeats=options.steps)
    return {
        "preparing_images_per_s": images / preparing_s,
        "step_images_per_s": images / step_s,
        "preparing_percent": 100 * profiled_share(step, task, options.steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, metavar="PATH", help="measure on CIFAR-10 too")
    parser.add_argument("--cell", default="darts_v2", help="a published cell, to train")
    parser.add_argument("--steps", type=int, default=10, help="measured, with the profiler and without")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for recipe in ("photos", *(["cifar10"] if options.cifar10 is not None else [])):
        config = load(recipe, options)
        for kind in PARTS:
            found = measure(kind, config, options)
            figures |= {f"{recipe}_{kind}_{name}": value for name, value in found.items()}
    report(
        f"preparing batches: settings of recipes/small, {options.steps} steps after {options.warm_up} of warm-up, "
        f"seed {options.seed}",
        figures,
        options.json,
    )


if __name__ == "__main__":
    main()
