"""Training a rebuilt network from scratch, and what it scores on the test set (Section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datanas import seeding
from datanas.architecture import Architecture
from datanas.distributed import ALONE, Processes
from datanas.engine.config import Config, require_cells, resolve
from datanas.engine.loop import EpochReport, Job, run_job
from datanas.engine.run import begin_run, load_chosen_state, load_run_config
from datanas.engine.schedules import build_sgd, learning_rate, set_learning_rate
from datanas.engine.setup import load_task, memory_errors, select_device
from datanas.engine.steps import Averaging, autocast, update
from datanas.errors import CheckpointError
from datanas.hardware import count_macs, count_parameters, place
from datanas.network import Network
from datanas.ops.mixed import set_drop_path
from datanas.ops.norm import synchronise
from datanas.spaces import spaces
from datanas.tasks.base import Part, Task

NETWORK_FILE = "network.safetensors"


def network_for(architecture: Architecture, config: Config, task: Task[Any]) -> Network:
    """The network that the configuration's `train` section describes, with fresh weights keyed by the seed."""
    settings = config.train
    with seeding.keyed(config.seed, "network"):
        stem = task.make_stem(settings.channels)
        network = Network(
            architecture,
            stem,
            partial(task.make_head, stem=stem),
            channels=settings.channels,
            cells=settings.cells,
            auxiliary=settings.auxiliary,
            pooling_norm=settings.pooling_norm,
        )
    if architecture.space in spaces:
        require_cells(config, architecture.space)  # not before: of a task that does not fit, cells are not the fault
    return network


class TrainJob(Job):
    """A training under way: network, optimiser, and the average of the weights where one is kept."""

    kind = "train"

    def __init__(
        self,
        config: Config,
        architecture: Architecture,
        task: Task[Any],
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        settings = config.train
        self.config = config
        self.task = task
        self.device = device
        self._part: Part = "train"
        self.held_out: Part | None = "validation" if settings.validation > 0 or task.has_validation else None
        if settings.parts == "search":
            self._part, self.held_out = "weights", "alpha"
            task.split_search(config.search.split, settings.batch_size, config.search.examples)
        else:
            task.split_train(settings.validation, settings.batch_size)
        self.network = network_for(architecture, config, task)
        place(self.network, device)
        if config.sync_batch_norm:
            synchronise(self.network, processes)
        self._processes = processes
        self._average = Averaging(processes, self.network)
        self._run: torch.nn.Module = self.network
        if settings.compile:
            self._run = cast(torch.nn.Module, torch.compile(self.network))
        self.average: AveragedModel | None = None
        if settings.ema is not None:
            decay = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.network, multi_avg_fn=decay, use_buffers=True)
        self._history: list[float] = []
        self._weights = list(self.network.parameters())
        self._optimizer = build_sgd(self._weights, settings.weights)
        self.steps_per_epoch = task.steps_per_epoch(self._part)
        self.epochs = settings.epochs

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that counts: the average, where one is kept."""
        return self.network if self.average is None else self.average.module

    def step(self, step: int) -> dict[str, float]:
        settings = self.config.train
        epoch = step // self.steps_per_epoch
        set_drop_path(self.network, settings.drop_path * epoch / settings.epochs)
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "train", step, *own), autocast(self.device, settings.precision):
            batch = self.task.batch(self._part, step)
            set_learning_rate(self._optimizer, self._rate(step) * self.task.rate(batch))
            loss = self.task.loss(self._run, batch)
        whole, place = divmod(step, self.steps_per_epoch)
        what = f"step {step + 1}, batch {place + 1} of epoch {whole + 1}"
        value = update(loss, self._weights, self._optimizer, settings.weights.clip, what, self._average)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return {"loss": value}

    def _rate(self, step: int) -> float:
        """The learning rate, for a batch whose factor is 1."""
        settings = self.config.train
        return learning_rate(settings.weights, step / self.steps_per_epoch, settings.epochs)

    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        settings = self.config.train
        figures: dict[str, Any] = {f"train/{name}": value for name, value in means.items()}
        figures["learning_rate"] = self._rate(epoch * self.steps_per_epoch - 1)
        if settings.average_after is not None:
            figures["averaging"] = 0.0 if self.average is None else 1.0
        summary, reached = f"loss {means['loss']:.3f}", None
        if self.held_out is not None and (epoch % settings.validate_every == 0 or epoch == settings.epochs):
            with _evaluating(self.evaluated) as network:
                found = self.task.monitor(network, self.held_out)
            figures |= {f"validation/{name}": value for name, value in found.items()}
            reached = self.task.goodness(found[self.task.score])
            summary += f"  validation {self.task.score} {self.task.show(found[self.task.score], 2)}"
            if settings.average_after is not None:
                self._decide_to_average(reached, settings.average_after)
        return EpochReport(figures, summary, score=reached)

    def _decide_to_average(self, reached: float, patience: int) -> None:
        """Begin to average where this is worse than the best of all measurements but the last `patience`."""
        earlier = self._history[:-patience]
        if self.average is None and earlier and reached < max(earlier):
            self._begin_average()
        self._history.append(reached)

    def _begin_average(self) -> None:
        self.average = AveragedModel(self.network, multi_avg_fn=_average_equally, use_buffers=True)

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "history": list(self._history),
            "optimizer": self._optimizer.state_dict(),
            "task": self.task.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._history = list(state.get("history", []))  # runs of earlier versions have none
        if self.average is None and state["average"] is not None:
            self._begin_average()
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.task.load_state_dict(state["task"])


@torch.no_grad()
def _average_equally(average: Any, latest: Any, count: Any) -> None:
    """Let the mean of `count` hold one more. What is counted in whole numbers has no mean: of that, the latest."""
    if average[0].is_floating_point():
        torch._foreach_lerp_(average, latest, 1 / (int(count) + 1))
    else:
        torch._foreach_copy_(average, latest)


def score(network: torch.nn.Module, task: Task[Any], part: Any, limit: int | None = None) -> dict[str, float]:
    """A network's figures over a part, in evaluation mode."""
    with _evaluating(network):
        return task.evaluate(network, part, limit)


@contextmanager
def _evaluating(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Run a block with the network in evaluation mode."""
    training = network.training
    network.eval()
    try:
        yield network
    finally:
        network.train(training)


@dataclass(frozen=True)
class Evaluation:
    """What a trained network reaches and costs.

    Attributes:
        score: the task's score on the part (accuracy in 0..1).
        error: 1 - score, where the score is a share.
        loss: mean loss there.
        parameters: learned numbers, the auxiliary tower left out.
        macs: multiply-adds of one example.
        part: where it was measured: "test", "validation", or "alpha" of a search's parts.
        score_name: what the score is.
    """

    score: float
    error: float | None
    loss: float
    parameters: int
    macs: int
    part: str = "test"
    score_name: str = "accuracy"


@dataclass(frozen=True)
class TrainResult:
    """What a training gave.

    Attributes:
        path: the run folder.
        network: the trained network, in evaluation mode (the average of the weights, where one was kept).
        evaluation: its figures on the test set, or on the held-out share with `train.test: false`.
        validation: its figures on the part `validation` that the data bring, where they do.
    """

    path: Path
    network: torch.nn.Module
    evaluation: Evaluation
    validation: Evaluation | None = None


def train(
    architecture: Architecture | str | Path | None = None,
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
) -> TrainResult:
    """Train an architecture from scratch and measure it on the test set, once, at the end.

    Where a run of that name stands, go on with it.

    Args:
        architecture: an Architecture or the path of its file; may be left out when resuming.
        config: a recipe's path, a mapping of sections, or a Config; may be left out when resuming.
        resume: a run folder to go on with.
        quiet: no progress on stderr.
        allow_topology_change: go on with another device or number of processes, though not bit for bit.

    Raises:
        ArchitectureError, ConfigError, DataError: before anything is written.
        NonFiniteError, OutOfMemoryError, StorageError, RunInUseError, CheckpointError, ProcessLostError, Interrupted:
            as they say.
    """
    if architecture is None and resume is None:
        raise TypeError("train() needs an architecture, or a run to resume")
    given = architecture
    if given is None and resume is not None:
        load_run_config(resume)
        given = Path(resume) / "architecture.json"
    assert given is not None
    chosen = given if isinstance(given, Architecture) else Architecture.load(given)
    with begin_run(config, "train", resume, architecture=chosen, allow_topology_change=allow_topology_change) as run:
        with memory_errors(), run.processes.together():
            task = load_task(run.config, run.device, run.processes)
            assert run.architecture is not None
            job = TrainJob(run.config, run.architecture, task, run.device, run.processes)
        run.open(task, job.length, {"architecture.json": chosen.to_json()})
        run_job(job, run, quiet=quiet)
        network = job.evaluated
        # Copies: a head may share weights with its stem, and safetensors stores nothing that is shared.
        weights = {
            name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()
        }
        run.write_bytes(NETWORK_FILE, save(weights))
        part = "test" if run.config.train.test else job.held_out
        assert part is not None
        evaluation = measure(network, task, part)
        written, validation = asdict(evaluation), None
        if task.has_validation:
            validation = evaluation if part == "validation" else measure(network, task, "validation")
            written["validation"] = asdict(validation)
        run.write_json("evaluation.json", written)
        return TrainResult(run.path, network.eval(), evaluation, validation)


def evaluate(
    run: str | Path,
    overrides: list[tuple[str, object]] | None = None,
    *,
    checkpoint: Literal["last", "best"] | None = None,
) -> Evaluation:
    """Measure the trained network of a run folder on its test set again.

    Args:
        run: a run folder of `train`.
        overrides: settings that differ here, such as ("data.root", path).
        checkpoint: measure what the last checkpoint holds, or that after the epoch with the best validation score,
            instead of the network that the training ended with.

    Raises:
        CheckpointError: no trained network there, or one that does not fit its architecture.
    """
    network, task = _restored(run, overrides, checkpoint)
    return measure(network, task)


def evaluate_parts(
    run: str | Path,
    overrides: list[tuple[str, object]] | None = None,
    *,
    checkpoint: Literal["last", "best"] | None = None,
) -> tuple[Evaluation, Evaluation | None]:
    """As `evaluate`, with the figures on the part `validation` that the data bring, where they do."""
    network, task = _restored(run, overrides, checkpoint)
    validation = measure(network, task, "validation") if task.has_validation else None
    return measure(network, task), validation


def _restored(
    run: str | Path, overrides: list[tuple[str, object]] | None, checkpoint: Literal["last", "best"] | None
) -> tuple[torch.nn.Module, Task[Any]]:
    """The trained network of a run folder, and its task with the parts that it was trained on."""
    settings = resolve(load_run_config(run), overrides or [])
    device = select_device(settings)
    weights, source = _trained_weights(Path(run), checkpoint)
    task = load_task(settings, device)
    network = network_for(Architecture.load(Path(run) / "architecture.json"), settings, task)
    try:
        network.load_state_dict(weights)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{source}: does not fit the run's architecture: {reason}") from None
    return place(network, device), task


def _trained_weights(run: Path, checkpoint: Literal["last", "best"] | None) -> tuple[dict[str, Tensor], Path]:
    """The state of a trained network, and the file or folder that holds it."""
    if checkpoint is not None:
        step, state = load_chosen_state(run, "train", checkpoint)
        job = state["job"]
        weights = job["network"]
        if job["average"] is not None:
            weights = {
                name.removeprefix("module."): value for name, value in job["average"].items() if name != "n_averaged"
            }
        return weights, run / "checkpoints" / f"step-{step:08d}"
    file = run / NETWORK_FILE
    if not file.is_file():
        raise CheckpointError(f"no trained network in {run}: {NETWORK_FILE} is missing; finish it with train --resume")
    try:
        return load_file(file), file
    except Exception as error:
        raise CheckpointError(f"{file}: not a trained network: {str(error).splitlines()[0]}") from None


def measure(network: torch.nn.Module, task: Task[Any], part: Part = "test") -> Evaluation:
    """Figures on a part, and costs."""
    found = score(network, task, part)
    auxiliary = getattr(network.head, "auxiliary", None)
    extra = 0 if auxiliary is None else count_parameters(auxiliary)
    value = found[task.score]
    return Evaluation(
        score=value,
        error=1 - value if task.is_share else None,
        loss=found["loss"],
        parameters=count_parameters(network) - extra,
        macs=count_macs(network, task.example()),
        part=part,
        score_name=task.score,
    )
