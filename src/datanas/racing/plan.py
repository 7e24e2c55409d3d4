"""How large a race is and how long each rung, from the time that it may take."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from datanas.core.cores import usable_cores
from datanas.core.durations import show_seconds
from datanas.core.errors import ConfigError
from datanas.engine.config import Config
from datanas.engine.dry_run import measure_job
from datanas.engine.train import TrainJob
from datanas.engine.width import with_width
from datanas.racing.candidates import Candidate
from datanas.tasks.base import Task

ETA = 3
"""Of the candidates of a rung one in so many goes on, to train so many times as long."""
SIZES = (27, 18, 12, 9, 6)
FEWEST_EPOCHS, FEWEST_STEPS = 2, 100
MEASURED = 3
"""Candidates whose steps are timed."""
_MARGIN = 1.3  # of the time of steps: trainings that run together slow each other, and the slowest decides
_BEGINNING = "from datanas.engine.config import resolve; import datanas.engine.train; resolve({})"


@dataclass(frozen=True)
class Rung:
    """So many candidates, trained so many epochs each."""

    candidates: int
    epochs: int


@dataclass(frozen=True)
class Pace:
    """What trainings cost on this machine.

    Attributes:
        steps: of an epoch.
        step: seconds of one.
        rest: seconds of a training beside its steps: start, data, measuring.
        workers: trainings at a time.
    """

    steps: int
    step: float
    rest: float
    workers: int

    def seconds(self, rungs: Sequence[Rung], references: int = 0) -> float:
        """What these rungs take, one after the other, each with so many references, and a random cell beside these."""
        stay = [references, *(len(rungs) - 1) * [references + 1 if references else 0]]
        return sum(
            math.ceil((rung.candidates + more) / self.workers) * self.training_seconds(rung.epochs * self.steps)
            for rung, more in zip(rungs, stay, strict=True)
        )

    def training_seconds(self, steps: float) -> float:
        """What a training of so many steps takes beside others."""
        return steps * self.step * _MARGIN + self.rest

    def steps_in(self, seconds: float) -> int:
        """The steps that a training can make in this time, beside others; 0 where there is none."""
        return max(0, int((seconds - self.rest) / (self.step * _MARGIN)))

    @property
    def fewest_epochs(self) -> int:
        """Of a first rung."""
        return max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / self.steps))


@dataclass(frozen=True)
class Plan:
    """The rungs of a race and the seconds that they are expected to take; None where nobody has measured."""

    rungs: tuple[Rung, ...]
    seconds: float | None

    def text(self) -> str:
        """The plan for people."""
        rungs = ", ".join(f"{rung.candidates} candidates x {rung.epochs} epochs" for rung in self.rungs)
        return rungs if self.seconds is None else f"{rungs}; about {show_seconds(self.seconds)}"

    def to_json(self) -> dict[str, Any]:
        return {"rungs": [asdict(rung) for rung in self.rungs], "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        return cls(tuple(Rung(**rung) for rung in data["rungs"]), data["seconds"])


def rungs_of(candidates: int, epochs: int) -> tuple[Rung, ...]:
    """Successive halving down to three or four finalists, two of six (Jamieson and Talwalkar, AISTATS 2016)."""
    rungs = [Rung(candidates, epochs)]
    while rungs[-1].candidates > ETA + 1:
        rungs.append(Rung(max(2, rungs[-1].candidates // ETA), rungs[-1].epochs * ETA))
    return tuple(rungs)


def make_plan(
    pace: Pace,
    seconds: float,
    candidates: int | None = None,
    epochs: int | None = None,
    *,
    spent: float = 0.0,
    references: int = 0,
    is_bound: bool = True,
) -> Plan:
    """The largest race that fits, as long as it may be.

    Args:
        pace: what trainings cost.
        seconds: that all of it may take.
        candidates: how many, where that is given.
        epochs: of the first rung, where that is given; with `candidates` nothing is left to the time.
        spent: seconds that have gone before, for the message.
        references: how many take part besides.
        is_bound: whether the time was asked for. Otherwise the smallest race takes as long as it takes.

    Raises:
        ConfigError: too little even for the smallest; the message says how much that takes.
    """
    sizes = SIZES if candidates is None else (candidates,)
    least = epochs or pace.fewest_epochs
    if candidates is not None and epochs is not None:
        seconds = math.inf
    size = next((each for each in sizes if pace.seconds(rungs_of(each, least), references) <= seconds), None)
    if size is None and not is_bound:
        size = sizes[-1]
    if size is None:
        needed = spent + pace.seconds(rungs_of(sizes[-1], least), references)
        given = show_seconds(max(seconds + spent, 0.0))
        raise ConfigError(
            f"search.race.time: {given} are too few for {sizes[-1]} candidates and {least} epochs, which take about "
            f"{show_seconds(needed)}; allow as much with --time, or make trainings cheaper, such as by a smaller "
            "network (--train.channels, --max-macs)"
        )
    while epochs is None and pace.seconds(rungs_of(size, least + 1), references) <= seconds:
        least += 1
    rungs = rungs_of(size, least)
    return Plan(rungs, pace.seconds(rungs, references))


def trainings_at_a_time(config: Config) -> tuple[int, int]:
    """How many trainings of a race go on side by side, and the threads of each."""
    cores = usable_cores()
    on_gpus = torch.cuda.is_available() and config.device.startswith(("auto", "cuda"))
    workers = config.search.race.processes or (torch.cuda.device_count() if on_gpus else cores)
    return workers, config.threads or max(1, cores // workers)


def measure_pace(
    candidates: Sequence[Candidate], config: Config, task: Task[Any], device: torch.device, workers: int, load: float
) -> Pace:
    """Time a few steps of some of the candidates, and the start of a process.

    Args:
        config: of their training; with as many threads as it says.
        load: seconds that reading the data took.
    """
    every = max(1, len(candidates) // MEASURED)
    seconds = []
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    for candidate in candidates[::every][:MEASURED]:
        sized = with_width(candidate.architecture, config, task)
        job = TrainJob(sized, candidate.architecture, task, device)
        seconds.append(measure_job(job, device))
    torch.set_num_threads(threads)
    step, rest = (sum(part) / len(seconds) for part in zip(*seconds, strict=True))
    return Pace(job.steps_per_epoch, step, _start_seconds() + load + rest, workers)


def _start_seconds() -> float:
    """Seconds until a process has begun to read its data."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _BEGINNING], check=False, capture_output=True)
    return time.perf_counter() - began
