"""A training from scratch, from its first step to its result (Section 5.1).

`train` is all of it, in the order in which things happen. A step is `TrainJob.step`, what follows an epoch `end_epoch`.
`steps` says how an update is made and guarded, `weight_average` what is averaged, `train_result` what is left at the
end. Checkpoints, progress and signals are those of `loop`, the run folder and other processes those of `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.processes import ALONE, Processes
from datanas.engine.budget import require_within
from datanas.engine.config import Config, require_held_out
from datanas.engine.earlier_run import load_run_config, with_recipe_of
from datanas.engine.evaluation import evaluating
from datanas.engine.loop import EpochReport, Job, Loop
from datanas.engine.passes import EpochPolicy
from datanas.engine.process import process_kept
from datanas.engine.rebuild import network_for, with_network_of
from datanas.engine.run import Run, plan_run
from datanas.engine.schedules import build_sgd, learning_rate, set_learning_rate
from datanas.engine.setup import load_task, memory_errors
from datanas.engine.starting import starting_weights
from datanas.engine.steps import Averaging, autocast, update
from datanas.engine.train_result import TrainResult, write_result
from datanas.engine.weight_average import WeightAverage
from datanas.engine.width import with_width
from datanas.kernels.hardware import move_to
from datanas.kernels.norm import synchronise
from datanas.lookup import find_architecture
from datanas.tasks.base import Part, Task


@process_kept()
def train(
    architecture: Architecture | str | Path | None = None,
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
    policy: EpochPolicy | None = None,
) -> TrainResult:
    """Train an architecture from scratch and measure it on the test set, once, at the end.

    Where a run of that name stands, go on with it.

    Args:
        architecture: an Architecture, the path of its file or of a run folder, its genotype, or the name of a published
            one; may be left out when resuming. Of a run folder that run's recipe holds, under what a mapping says; a
            recipe's path stands alone.
        config: a recipe's path, a mapping of sections, or a Config; may be left out when resuming.
        resume: a run folder to go on with.
        quiet: no progress on stderr.
        allow_topology_change: go on with another device or number of processes, though not bit for bit.
        policy: may change, after each epoch, how many there are, which `train.revised` keeps; of a run in one process.

    Raises:
        ArchitectureError, ConfigError, DataError: before anything is written.
        NonFiniteError, OutOfMemoryError, StorageError, RunInUseError, CheckpointError, ProcessLostError, Interrupted:
            as they say.

    >>> trained = train("gdas", recipe)
    >>> 0 <= trained.evaluation.error <= 1
    True
    """
    if architecture is None and resume is None:
        raise TypeError("train() needs an architecture, or a run to resume")
    given = architecture
    if given is None and resume is not None:
        load_run_config(resume)
        given = Path(resume) / "architecture.json"
    assert given is not None
    chosen = find_architecture(given)
    if resume is None and (config is None or isinstance(config, Mapping)):
        config = with_recipe_of(given, config or {}, {})
    planning = plan_run(config, "train", resume, architecture=chosen, allow_topology_change=allow_topology_change)
    with chosen.naming_file(), planning as plan:
        with memory_errors(), plan.processes.together():
            assert plan.architecture is not None
            start = None if plan.has_begun else starting_weights(plan.config, chosen)
            task = load_task(plan.config, plan.device, plan.processes)
            plan.config = with_width(plan.architecture, plan.config, task)
            costs = require_within(plan.architecture, plan.config, task)
            job = TrainJob(plan.config, plan.architecture, task, plan.device, plan.processes, start)
        run = plan.open(task, job.length, {"architecture.json": chosen.to_json()})
        with Loop(job, run, quiet=quiet) as loop:
            if policy is not None:
                policy.begin()
            for step in loop:  # from where the run is; saves, and stops at a signal, between two steps
                loop.add(job.step(step))
                if loop.ends_epoch:
                    loop.report(job.end_epoch(loop.epoch, loop.means()))
                    if policy is not None:
                        job.follow(policy, loop, run)
        return write_result(job, run, costs)


class TrainJob(Job):
    """A training under way: network, optimiser, and the average of the weights where one is kept.

    Args:
        start: gives the network the weights that it starts with (`starting_weights`); None leaves it fresh ones.

    Raises:
        CheckpointError: they are of another stem or body.
    """

    kind = "train"

    def __init__(
        self,
        config: Config,
        architecture: Architecture,
        task: Task[Any],
        device: torch.device,
        processes: Processes = ALONE,
        start: Callable[[torch.nn.Module], None] | None = None,
    ) -> None:
        settings = config.train
        require_held_out(config, brings_validation=task.has_validation)
        self.config = config
        self.task = task
        self.device = device
        self._part: Part = "train"
        self.held_out: Part | None = "validation" if settings.validation > 0 or task.has_validation else None
        if settings.parts == "judge":
            self.held_out = "validation"
            task.set_aside(config.search.judge or None)
        elif settings.parts == "search" and config.search.leaves_aside:
            task.set_aside(config.search.judge)
        if settings.parts == "search":
            self._part, self.held_out = "weights", "alpha"
            task.split_search(config.search.split, settings.batch_size, config.search.examples)
        else:
            if settings.examples is not None:
                task.limit(settings.examples)
            task.split_train(settings.validation, settings.batch_size)
        self.network = network_for(architecture, config, task)
        self._size = with_network_of(config, architecture).train.network_config
        if start is not None:
            start(self.network)
        move_to(self.network, device)
        if config.sync_batch_norm:
            synchronise(self.network, processes)
        self._reach = seeding.reach_of(self.network, task, is_compiled=settings.compile)
        self._processes = processes
        self._average = Averaging(processes, self.network)
        self._run: torch.nn.Module = self.network
        if settings.compile:
            self._run = cast(torch.nn.Module, torch.compile(self.network))
        self.average = WeightAverage(self.network, settings)
        self._weights = list(self.network.parameters())
        self._optimizer = build_sgd(self._weights, settings.weights)
        self.steps_per_epoch = task.steps_per_epoch(self._part)
        self.passes = settings.passes
        self.epochs = self.passes.total

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that counts: the average, where one is kept."""
        return self.average.network

    def step(self, step: int) -> dict[str, float]:
        settings = self.config.train
        epoch = step // self.steps_per_epoch
        self._size.advance(self.network, int(self.passes.at(epoch)), settings.epochs)
        whole, index = divmod(step, self.steps_per_epoch)
        what = f"step {step + 1}, batch {index + 1} of epoch {whole + 1}"
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "train", step, *own, reach=self._reach):
            with autocast(self.device, settings.precision):
                batch = self.task.batch(self._part, step)
                set_learning_rate(self._optimizer, self._rate(step) * self.task.lr_scale(batch))
                loss = self.task.loss(self._run, batch)
            value = update(loss, self._weights, self._optimizer, settings.weights.clip, what, self._average)
        self.average.update()
        return {"loss": value}

    def _rate(self, step: int) -> float:
        """The learning rate, for a batch whose factor is 1."""
        settings = self.config.train
        return learning_rate(settings.weights, self.passes.at(step / self.steps_per_epoch), settings.epochs)

    def follow(self, policy: EpochPolicy, loop: Loop, run: Run) -> None:
        """Let `policy` change how many epochs there are; in a run that goes on, what it has decided before stands."""
        epoch = loop.epoch
        if epoch >= self.epochs or self.passes.is_settled_after(epoch):
            return
        epochs = policy.revise(epoch, self.epochs)
        if epochs == self.epochs:
            return
        loop.say(f"{epochs} epochs in place of {self.epochs}: " + ("late" if epochs < self.epochs else "time is left"))
        self.passes = self.passes.changed(epoch, epochs)
        self.epochs = epochs
        settings = self.config.train.model_copy(update={"revised": self.passes.revised})
        self.config = self.config.model_copy(update={"train": settings})
        run.change_config(self.config)

    def end_epoch(self, epoch: int, means: dict[str, float]) -> EpochReport:
        settings = self.config.train
        figures: dict[str, Any] = {f"train/{name}": value for name, value in means.items()}
        figures["learning_rate"] = self._rate(epoch * self.steps_per_epoch - 1)
        if settings.average_after is not None:
            figures["averaging"] = 0.0 if self.average.model is None else 1.0
        summary, score = f"loss {means['loss']:.3f}", None
        if self.held_out is not None and (epoch % settings.validate_every == 0 or epoch == self.epochs):
            with evaluating(self.evaluated) as network:
                figures_of_part = self.task.monitor(network, self.held_out)
            figures |= {f"validation/{name}": value for name, value in figures_of_part.items()}
            score = self.task.selection_score(figures_of_part)
            metric = self.task.metric
            summary += f"  validation {metric.name} {metric.show(figures_of_part[metric.name], 2)}"
            self.average.heed(score)
        return EpochReport(figures, summary, score=score)

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            **self.average.state(),
            "optimizer": self._optimizer.state_dict(),
            "task": self.task.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.average.load_state(state)
        self.task.load_state_dict(state["task"])
