"""The loop that search and training share: steps, epochs, metrics, checkpoints, and stopping in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datanas.engine.setup import memory_errors
from datanas.errors import CheckpointError, Interrupted
from datanas.runs.checkpoint import latest_step, load_checkpoint, save_checkpoint
from datanas.runs.folder import RunFolder
from datanas.runs.metrics import Metrics
from datanas.runs.progress import Progress
from datanas.runs.signals import StopRequest

Figures = Mapping[str, Any]


@dataclass
class EpochReport:
    """What an epoch leaves behind.

    Attributes:
        figures: for metrics and TensorBoard; numbers, strings or lists.
        summary: one line for people.
        files: texts to write, by path inside the run folder.
        warnings: lines that need attention.
    """

    figures: dict[str, Any]
    summary: str
    files: dict[Path, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Job(ABC):
    """Something that runs step by step. A step is a function of its number and of the state before it."""

    kind: ClassVar[str]
    steps_per_epoch: int
    epochs: int
    turn: int = 1
    """Steps after which the work of a step repeats."""

    @abstractmethod
    def step(self, step: int) -> dict[str, float]:
        """Make one step; its figures are averaged over the epoch."""

    @abstractmethod
    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        """Measure after epoch `epoch` (counted from 1), given the mean of each step figure."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that the steps have changed."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put a state back."""


def run_job(job: Job, folder: RunFolder, *, resume: bool, checkpoint_every: int, quiet: bool) -> None:
    """Run a job to its end.

    Raises:
        Interrupted: a signal came; the state is saved.
        NonFiniteError, OutOfMemoryError, StorageError, CheckpointError: as their names say.
    """
    start, sums = 0, _Sums()
    if resume and latest_step(folder.path) is not None:
        start, saved = load_job_state(folder.path, job.kind)
        try:
            job.load_state(saved["job"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{folder.path}: the checkpoint does not fit config.yaml: {reason}") from None
        sums = _Sums(dict(saved["sums"]), int(saved["count"]))
    total = job.epochs * job.steps_per_epoch

    def save(step: int) -> None:
        state = {"kind": job.kind, "job": job.state(), "sums": sums.totals, "count": sums.count}
        save_checkpoint(folder.path, step, state)

    with (
        Metrics(folder.path, start if resume else None) as metrics,
        Progress(job.kind, total, quiet=quiet, done=start) as progress,
        StopRequest() as stop,
        memory_errors(),
    ):
        for step in range(start, total):
            sums.add(job.step(step))
            epoch, place = divmod(step + 1, job.steps_per_epoch)
            progress.advance(text=sums.text(), stage=f"epoch {min(epoch + 1, job.epochs)}/{job.epochs}")
            if place == 0:
                report = job.end_epoch(epoch, sums.means())
                sums.clear()
                metrics.log(step + 1, {"epoch": epoch, **report.figures})
                for path, text in report.files.items():
                    folder.write_text(path, text)
                progress.message(f"epoch {epoch}/{job.epochs}  {report.summary}")
                for warning in report.warnings:
                    progress.message(f"warning: {warning}")
                if epoch % checkpoint_every == 0 or step + 1 == total:
                    save(step + 1)
            if stop and step + 1 < total:
                save(step + 1)
                raise Interrupted(
                    f"interrupted at step {step + 1}/{total}; the state is saved, "
                    f"go on with: datanas {job.kind} --resume {folder.path}",
                    stop.signum or 0,
                )


def load_job_state(run: Path, kind: str) -> tuple[int, dict[str, Any]]:
    """The step and the saved state of a run folder's last checkpoint.

    Raises:
        CheckpointError: there is no usable one, or it is of a run of another kind.
    """
    step, saved = load_checkpoint(run)
    if saved.get("kind") != kind:
        raise CheckpointError(f"{run}: a {kind} run is needed, this is a {saved.get('kind')} run")
    return step, saved


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
