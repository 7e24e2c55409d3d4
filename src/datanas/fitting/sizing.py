"""How large a network is and how long it is trained, from the time that its training may take."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError, OutOfMemoryError
from datanas.core.settings import merge
from datanas.engine.config import Config, resolve
from datanas.engine.dry_run import measure_job
from datanas.engine.rebuild import with_network_of
from datanas.engine.setup import memory_errors
from datanas.engine.train import TrainJob
from datanas.engine.width import with_width
from datanas.tasks.base import Task

LEAST_MACS, MOST_MACS = 250_000, 600_000_000
"""Of an image of 32x32: others are sized by their pixels."""
FEWEST_EPOCHS, MOST_EPOCHS = 5, 100
"""Of a training: with fewer passes more is lost than a larger network gains; more learn the images by heart."""
FEWEST_STEPS = 600
"""Of a training, likewise, where the examples are few."""
WIDTHS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
"""Channels of the first cell that a training is settled to."""
_MEASURED_AGAIN = 2
"""A part that the data bring for validation is measured once more at the end, and test examples, about as many."""
_OF_ONE_PASS, _FEWEST_OF_ONE_PASS = 0.9, 50
"""What of its time a single pass that is cut short is planned to take, since it cannot be cut again; and its steps."""
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
        examples: of an epoch, and those held out of them; 0 where fewer cannot be taken, or their number is given.
    """

    macs: int | None
    step: float
    measure: float
    steps: int
    examples: int = 0

    def examples_in(self, seconds: float) -> int | None:
        """Of how many examples one pass can be made in this time; None for all, or where fewer cannot be taken.

        >>> Size(None, step=0.1, measure=10.0, steps=1000, examples=35_000).examples_in(60)
        15750
        """
        free = seconds - self.measure
        if not self.examples or self.steps * self.step <= free:
            return None
        steps = max(_FEWEST_OF_ONE_PASS, int(_OF_ONE_PASS * free / self.step))
        return None if steps >= self.steps else self.examples * steps // self.steps

    def epochs_in(self, seconds: float) -> int:
        """As many as fit, 1 at least."""
        return max(1, min(most_epochs(self.steps), int((seconds - self.measure) / (self.steps * self.step))))

    def seconds_of(self, epochs: float) -> float:
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
    if job.held_out is not None:
        measure *= 1 + _MEASURED_AGAIN
    settings = config.train
    can_limit = type(task).limit is not Task.limit and settings.parts != "search" and settings.examples is None
    examples = 0
    if can_limit:
        chosen = task.chosen()  # what is held out of the training examples grows and shrinks with them
        examples = len(chosen.get("train", ())) + (len(chosen["validation"]) if settings.validation > 0 else 0)
    return Size(settings.max_macs, step, measure, job.steps_per_epoch, examples)


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


def settled_size(
    architecture: Architecture, config: Config, task: Task[Any], device: torch.device, seconds: float
) -> tuple[int, Size]:
    """The width of this very network of which the wanted passes can be made in this time, and what its steps take.

    Widths are those of `WIDTHS`: kernels work on whole blocks of channels, so that 13 take as long as 16. They are
    timed from the planned width on, up or down; one that does not fit into memory will not do. Where none of them does
    it stays as planned.

    Args:
        config: of the training; its `max_macs` is what was planned, and no bound.
        seconds: of the training.
    """
    network = with_network_of(config, architecture)
    planned = with_width(architecture, network, task).train.network_config.width
    most = round(MOST_MACS * math.prod(task.example_shape[1:]) / 32**2)
    ceiling = with_width(architecture, at_macs(network, most), task).train.network_config.width
    best: tuple[int, Size] | None = None
    index = bisect_right(WIDTHS, planned) - 1
    index, direction = max(0, index), 1
    while 0 <= index < len(WIDTHS) and WIDTHS[index] <= ceiling:
        is_enough = False
        with suppress(OutOfMemoryError), memory_errors():
            size = measured(architecture, at_width(network, WIDTHS[index]), task, device)
            is_enough = size.epochs_in(seconds) >= wanted_epochs(seconds, size.steps)
        if is_enough:
            best = WIDTHS[index], size
        if is_enough != (direction > 0):
            if best is not None:
                break
            direction = -1
        index += direction
    if best is None:
        return planned, measured(architecture, at_width(network, planned), task, device)
    return best


def at_width(config: Config, width: int) -> Config:
    """The configuration with networks of this width, whatever they take."""
    setting = config.train.Network.width_setting
    return resolve(merge(config.model_dump(mode="json"), {"train": {"max_macs": None, setting: width}}))


def at_macs(config: Config, macs: int | None) -> Config:
    """The configuration with networks as wide as these multiply-adds allow."""
    return resolve(merge(config.model_dump(mode="json"), {"train": {"max_macs": macs}}))


def _mean_size(cells: Sequence[Architecture], config: Config, task: Task[Any], device: torch.device) -> Size:
    sizes = [measured(cell, config, task, device) for cell in cells]
    step, measure = (sum(values) / len(sizes) for values in zip(*((s.step, s.measure) for s in sizes), strict=True))
    return Size(config.train.max_macs, step, measure, sizes[0].steps, sizes[0].examples)
