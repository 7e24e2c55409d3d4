"""The loop that search and training share: steps, epochs, metrics, checkpoints, and stopping in between."""

from __future__ import annotations

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from datanas.core.errors import CheckpointError, EndedElsewhere, Interrupted, NonFiniteError
from datanas.engine.run import Run
from datanas.engine.setup import memory_errors
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
    """

    figures: dict[str, Any]
    summary: str
    files: dict[Path, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    score: float | None = None


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


def run_job(job: Job, run: Run, *, quiet: bool) -> None:
    """Run a job to its end, from where its run is.

    Raises:
        Interrupted: a signal came to one of the processes; the state is saved.
        EndedElsewhere: in another process than the first: it ends, and says why.
        NonFiniteError, OutOfMemoryError, StorageError, CheckpointError, ProcessLostError: as their names say.
    """
    try:
        _Course(job, run, quiet=quiet).follow()
    except NonFiniteError as error:
        if run.is_first:
            raise
        raise EndedElsewhere(str(error), error.exit_code) from error


class _Course:
    """The steps of a job in its run, and what is kept of them."""

    def __init__(self, job: Job, run: Run, *, quiet: bool) -> None:
        self._job, self._run = job, run
        self._quiet = quiet or not run.is_first
        self._total = job.length
        self._sums = _Sums()
        self._best: tuple[float, int] | None = None
        self._began = time.monotonic()
        self._warned: set[str] = set()
        if run.saved is not None:
            self._load(run.saved)

    def _load(self, saved: Mapping[str, Any]) -> None:
        try:
            self._job.load_state(saved["job"])
            self._sums = _Sums(dict(saved["sums"]), int(saved["count"]))
            self._best = None if saved["best"] is None else (float(saved["best"][0]), int(saved["best"][1]))
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self._run.path}: the checkpoint does not fit config.yaml: {reason}") from None

    def follow(self) -> None:
        job, run, settings = self._job, self._run, self._run.config.run
        with ExitStack() as stack:
            metrics: Metrics | None = None
            if run.is_first:
                metrics = stack.enter_context(Metrics(run.path, run.step))
            progress = stack.enter_context(Progress(job.kind, self._total, quiet=self._quiet, done=run.step))
            progress.message(run.about)
            for warning in job.foresee() if run.step == 0 else ():
                progress.message(f"warning: {warning}")
            stop = stack.enter_context(StopRequest(kills=run.processes.size > 1))
            stack.enter_context(memory_errors())
            clock = _SaveClock(settings.checkpoint_every, settings.checkpoint_minutes)
            for step in range(run.step, self._total):
                self._sums.add(job.step(step))
                done = step + 1
                epoch, place = divmod(done, job.steps_per_epoch)
                stage = f"epoch {min(epoch + 1, job.epochs)}/{job.epochs}"
                progress.advance(text=self._sums.text(), stage=stage)
                is_last = done == self._total
                is_best = place == 0 and self._end_epoch(epoch, done, metrics, progress)
                signum, is_due = 0, True
                if not is_last:
                    signum, is_due = self._agreed(stop.signum, clock.is_due(epoch if place == 0 else None))
                if is_best or signum or is_due:
                    with clock.saving():
                        self._save(done, metrics)
                if signum:
                    raise Interrupted(
                        f"interrupted at step {done}/{self._total}; the state is saved, "
                        f"go on with: datanas {job.kind} --resume {run.path}",
                        signum,
                    )

    def _end_epoch(self, epoch: int, done: int, metrics: Metrics | None, progress: Progress) -> bool:
        """Measure and write; whether this epoch is the best so far."""
        report = self._job.end_epoch(epoch, self._sums.means())
        self._sums.clear()
        score = None if report.score is None or math.isnan(report.score) else report.score
        is_best = score is not None and (self._best is None or score > self._best[0])
        if score is not None and is_best:
            self._best = score, done
        if metrics is not None:
            metrics.log(done, {"epoch": epoch, **report.figures})
        for path, text in report.files.items():
            self._run.write_text(path, text)
        progress.message(f"epoch {epoch}/{self._job.epochs}  {report.summary}")
        for warning in report.warnings:
            kind = _NUMBER.sub("", warning)  # the same again where only its figures have changed
            if kind not in self._warned:
                self._warned.add(kind)
                progress.message(f"warning: {warning}")
        return is_best

    def _save(self, step: int, metrics: Metrics | None) -> None:
        now = time.monotonic()
        self._run.seconds += now - self._began
        self._began = now
        of_job = self._job.state()  # by all: a task may gather its own from them
        if metrics is None:
            return
        metrics.sync()
        state = {
            "job": of_job,
            "sums": self._sums.totals,
            "count": self._sums.count,
            "best": None if self._best is None else list(self._best),
        }
        self._run.save(step, state, None if self._best is None else self._best[1])

    def _agreed(self, signum: int | None, is_due: bool) -> tuple[int, bool]:
        """The signal that came to any of the processes, 0 where none did, and whether the first wants to save."""
        found = self._run.processes.gather(torch.tensor([signum or 0, int(is_due)]))
        return int(found[:, 0].max()), bool(found[0, 1])


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
    """Running sums of the step figures of an epoch."""

    totals: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, figures: Mapping[str, float]) -> None:
        self.count += 1
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.totals.items()}

    def text(self) -> str:
        return "  ".join(f"{name} {value:.3f}" for name, value in self.means().items())

    def clear(self) -> None:
        self.totals.clear()
        self.count = 0
