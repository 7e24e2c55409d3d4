"""How large a network is and how long it is trained, from the time that its training may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.config import Config, resolve
from datanas.engine.dry_run import measure_job
from datanas.engine.rebuild import with_network_of
from datanas.engine.train import TrainJob
from datanas.engine.width import with_width
from datanas.tasks.base import Task

LEAST_MACS, MOST_MACS = 250_000, 600_000_000
"""Of an image of 32x32: others are sized by their pixels."""
FEWEST_EPOCHS, MOST_EPOCHS = 5, 100
"""Of a training: with fewer passes more is lost than a larger network gains; more learn the images by heart."""
FEWEST_STEPS = 600
"""Of a training, likewise, where the examples are few."""
_ALIKE = 2  # doublings that are to make a network wider
_USUAL, _USUAL_TIME = 8.0, 300.0


@dataclass(frozen=True)
class Size:
    """What a training is sized to.

    Attributes:
        macs: the bound on multiply-adds of one example; None where the width is as the recipe says.
        step: seconds of one step.
        measure: seconds of measuring at the end.
        steps: of an epoch.
    """

    macs: int | None
    step: float
    measure: float
    steps: int

    def epochs_in(self, seconds: float) -> int:
        """As many as fit, 1 at least."""
        return max(1, min(most_epochs(self.steps), int((seconds - self.measure) / (self.steps * self.step))))

    def seconds_of(self, epochs: int) -> float:
        return epochs * self.steps * self.step + self.measure


def most_epochs(steps: int) -> int:
    """More passes than these are not made, however long there is; of few examples as many as make some steps."""
    return max(MOST_EPOCHS, math.ceil(FEWEST_STEPS / steps))


def wanted_epochs(seconds: float, steps: int) -> int:
    """Passes that a training of this time is to make: they grow as the size of the network does, by the square root."""
    by_time = _USUAL * math.sqrt(max(seconds, 1.0) / _USUAL_TIME)
    least = max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps))
    return min(most_epochs(steps), max(least, round(by_time)))


def measured(architecture: Architecture, config: Config, task: Task[Any], device: torch.device) -> Size:
    """The size of the network that `train` describes, and what its steps take here."""
    sized = with_width(architecture, with_network_of(config, architecture), task)
    job = TrainJob(sized, architecture, task, device)
    step, measure = measure_job(job, device)
    return Size(config.train.max_macs, step, measure, job.steps_per_epoch)


def fitting_size(
    cells: Sequence[Architecture],
    config: Config,
    task: Task[Any],
    device: torch.device,
    seconds: float,
    most: int | None,
) -> Size:
    """The largest size, in steps of a factor of two, of which the wanted passes can be made in this time.

    Args:
        cells: whose networks are timed; the mean counts.
        config: what is trained, but for its width.
        seconds: of the training.
        most: a bound on the multiply-adds that somebody has set.

    Raises:
        ConfigError: not even the narrowest network is within the bound, or can be built.
    """
    pixels = math.prod(task.example_shape[1:]) / 32**2
    ceiling = round(min(MOST_MACS * pixels, math.inf if most is None else most))
    macs = min(round(LEAST_MACS * pixels), ceiling)
    widths: list[int] = []
    best: Size | None = None
    while True:
        try:
            width = with_width(cells[0], at_macs(config, macs), task).train.network_config.width
            size = _mean_size(cells, at_macs(config, macs), task, device)
        except ConfigError:  # too little for the narrowest network
            if macs == ceiling:
                raise
        else:
            widths.append(width)
            is_stuck = len(widths) > _ALIKE and widths[-1] == widths[-1 - _ALIKE]  # another bound holds
            if best is not None and (is_stuck or size.epochs_in(seconds) < wanted_epochs(seconds, size.steps)):
                return best
            best = size
            if macs == ceiling:
                return best
        macs = min(2 * macs, ceiling)


def at_macs(config: Config, macs: int | None) -> Config:
    """The configuration with networks as wide as these multiply-adds allow."""
    return resolve(merge(config.model_dump(mode="json"), {"train": {"max_macs": macs}}))


def _mean_size(cells: Sequence[Architecture], config: Config, task: Task[Any], device: torch.device) -> Size:
    sizes = [measured(cell, config, task, device) for cell in cells]
    step, measure = (sum(values) / len(sizes) for values in zip(*((s.step, s.measure) for s in sizes), strict=True))
    return Size(config.train.max_macs, step, measure, sizes[0].steps)
