"""The loop that search and training share: steps, epochs, metrics, checkpoints, and stopping in between."""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from datanas.core.errors import CheckpointError, EndedElsewhere, Interrupted, NonFiniteError
from datanas.engine.hyperparameters import hyperparameters
from datanas.engine.run import Run
from datanas.engine.setup import memory_errors
from datanas.runs.heat_map import HeatMap
from datanas.runs.metrics import Metrics
from datanas.runs.progress import Progress
from datanas.runs.signals import StopRequest

Figures = Mapping[str, Any]

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
WORK = 60
"""Seconds of a run for one of saving, at least, where nothing else is asked for: less than 2 % of its time."""


@dataclass
class EpochReport:
    """What an epoch leaves behind.

    Attributes:
        figures: for metrics and TensorBoard; numbers, strings or lists.
        summary: one line for people.
        files: texts to write, by path inside the run folder.
        warnings: lines that need attention.
        score: by which epochs are compared, the higher the better; of the best one the checkpoint is kept.
        heat_maps: pictures for TensorBoard, by name.
    """

    figures: dict[str, Any]
    summary: str
    files: dict[Path, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    score: float | None = None
    heat_maps: Mapping[str, HeatMap] = field(default_factory=dict)


class Job(ABC):
    """Something that runs step by step. A step is a function of its number and of the state before it."""

    kind: ClassVar[str]
    steps_per_epoch: int
    epochs: int
    turn: int = 1
    """Steps after which the work of a step repeats."""

    @property
    def length(self) -> int:
        """Steps of the whole."""
        return self.epochs * self.steps_per_epoch

    def foresee(self) -> list[str]:
        """What can be told to go wrong before the first step, a line each."""
        return []

    @abstractmethod
    def step(self, step: int) -> dict[str, float]:
        """Make one step; its figures are averaged over the epoch."""

    @abstractmethod
    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        """Measure after epoch `epoch` (counted from 1), given the mean of each step figure."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that the steps have changed; all processes ask for it at the same step."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put a state back."""


class Loop:
    """The steps of a job, from where its run is to the end, with checkpoints, progress and signals between them.

        with Loop(job, run, quiet=quiet) as loop:
            for step in loop:
                loop.add(job.step(step))
                if loop.ends_epoch:
                    loop.report(job.end_epoch(loop.epoch, loop.means()))

    Raises, besides what the job does:
        CheckpointError: what the run has saved does not fit the job.
        Interrupted: a signal came to one of the processes; the state is saved.
        EndedElsewhere: in another process than the first, what ended the step: it ends too, and says why.

    Attributes:
        epoch: how many are complete once the step is made that the loop is at.
        ends_epoch: whether that step is the last of one.
    """

    def __init__(self, job: Job, run: Run, *, quiet: bool) -> None:
        self._job, self._run = job, run
        self._quiet = quiet or not run.is_first
        self._sums = _Sums()
        self._best: tuple[float, int] | None = None
        self._is_best = False
        self._began = time.monotonic()
        self._warned: set[str] = set()
        self._metrics: Metrics | None = None
        self._stack = ExitStack()
        self.epoch, self.ends_epoch = 0, False
        if run.saved is not None:
            self._load(run.saved)

    def _load(self, saved: Mapping[str, Any]) -> None:
        try:
            self._job.load_state(saved["job"])
            self._sums = _Sums.from_state(saved)
            self._best = None if saved["best"] is None else (float(saved["best"][0]), int(saved["best"][1]))
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self._run.path}: the checkpoint does not fit config.yaml: {reason}") from None

    def __enter__(self) -> Loop:
        job, run = self._job, self._run
        with ExitStack() as stack:
            if run.is_first:
                self._metrics = stack.enter_context(
                    Metrics(run.path, run.step, partial(hyperparameters, run.config, job.kind))
                )
            self._progress = stack.enter_context(Progress(job.kind, job.length, quiet=self._quiet, done=run.step))
            self._progress.message(run.about)
            for warning in job.foresee() if run.step == 0 else ():
                self._progress.message(f"warning: {warning}")
            self._stop = stack.enter_context(StopRequest(kills=run.processes.size > 1))
            stack.enter_context(memory_errors())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if isinstance(error, NonFiniteError) and not self._run.is_first:
            raise EndedElsewhere(str(error), error.exit_code) from error

    def __iter__(self) -> Iterator[int]:
        job, settings = self._job, self._run.config.run
        clock = _SaveClock(settings.checkpoint_every, settings.checkpoint_minutes)
        step = self._run.step
        while step < job.length:  # which may change after an epoch
            done = step + 1
            self.epoch, step_in_epoch = divmod(done, job.steps_per_epoch)
            self.ends_epoch, self._is_best = step_in_epoch == 0, False
            yield step
            signum, is_due = 0, True
            if done < job.length:
                signum, is_due = self._agreed(self._stop.signum, clock.is_due(self.epoch if self.ends_epoch else None))
            if self._is_best or signum or is_due:
                with clock.saving():
                    self._save(done)
            if signum:
                raise Interrupted(
                    f"interrupted at step {done}/{job.length}; the state is saved, "
                    f"go on with: datanas {job.kind} --resume {self._run.path}",
                    signum,
                )
            step = done

    def add(self, figures: Mapping[str, float]) -> None:
        """Take in the figures of the step that was made, and show how far the run is."""
        self._sums.add(figures)
        stage = f"epoch {min(self.epoch + 1, self._job.epochs)}/{self._job.epochs}"
        self._progress.total = self._job.length
        self._progress.advance(text=self._sums.text(), stage=stage)

    def say(self, line: str) -> None:
        """Tell people something, where they are told anything."""
        self._progress.message(line)

    def means(self) -> dict[str, float]:
        """The mean of each step figure over the epoch so far."""
        return self._sums.means()

    def report(self, report: EpochReport) -> None:
        """Write what an epoch has left, say it, and note whether it is the best so far."""
        self._sums.clear()
        done = self.epoch * self._job.steps_per_epoch
        score = None if report.score is None or math.isnan(report.score) else report.score
        self._is_best = score is not None and (self._best is None or score > self._best[0])
        if score is not None and self._is_best:
            self._best = score, done
        if self._metrics is not None:
            self._metrics.log(done, {"epoch": self.epoch, **report.figures}, report.heat_maps)
        for path, text in report.files.items():
            self._run.write_text(path, text)
        self._progress.message(f"epoch {self.epoch}/{self._job.epochs}  {report.summary}")
        for warning in report.warnings:
            kind = _NUMBER.sub("", warning)  # the same again where only its figures have changed
            if kind not in self._warned:
                self._warned.add(kind)
                self._progress.message(f"warning: {warning}")

    def _save(self, step: int) -> None:
        now = time.monotonic()
        self._run.seconds += now - self._began
        self._began = now
        of_job = self._job.state()  # by all: a task may gather its own from them
        if self._metrics is None:
            return
        self._metrics.sync()
        state = {
            "job": of_job,
            "sums": self._sums.totals,
            "counts": self._sums.counts,
            "best": None if self._best is None else list(self._best),
        }
        self._run.save(step, state, None if self._best is None else self._best[1])

    def _agreed(self, signum: int | None, is_due: bool) -> tuple[int, bool]:
        """The signal that came to any of the processes, 0 where none did, and whether the first wants to save."""
        gathered = self._run.processes.gather(torch.tensor([signum or 0, int(is_due)]))
        return int(gathered[:, 0].max()), bool(gathered[0, 1])


class _SaveClock:
    """When a checkpoint is due.

    Args:
        every: epochs between two; None: one, or as many as keep saving below 1 / WORK of the time.
        minutes: at the latest after so long; None for never.
    """

    def __init__(self, every: int | None, minutes: float | None) -> None:
        self._every = every
        self._patience = math.inf if minutes is None else 60 * minutes
        self._saved_at, self._cost = time.monotonic(), 0.0

    def is_due(self, epoch: int | None) -> bool:
        """Whether one is due now, at the end of an epoch or in the middle of one."""
        passed = time.monotonic() - self._saved_at
        if passed > self._patience:
            return True
        if epoch is None:
            return False
        return passed >= WORK * self._cost if self._every is None else epoch % self._every == 0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Run a block that saves."""
        start = time.monotonic()
        yield
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start


@dataclass
class _Sums:
    """Running sums of the step figures of an epoch, and how many steps gave each: not all have an alpha step."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_state(cls, saved: Mapping[str, Any]) -> _Sums:
        """What a checkpoint holds; one of 0.1 has one count for all."""
        counts = saved["counts"] if "counts" in saved else dict.fromkeys(saved["sums"], saved["count"])
        return cls(dict(saved["sums"]), {name: int(count) for name, count in counts.items()})

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.totals.items()}

    def text(self) -> str:
        return "  ".join(f"{name} {value:.3f}" for name, value in self.means().items())

    def clear(self) -> None:
        self.totals.clear()
        self.counts.clear()
