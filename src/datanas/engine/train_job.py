"""The steps of a training from scratch (Section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.processes import ALONE, Processes
from datanas.engine.config import Config, require_held_out
from datanas.engine.evaluation import evaluating
from datanas.engine.loop import EpochReport, Job
from datanas.engine.rebuild import network_for
from datanas.engine.schedules import build_sgd, learning_rate, set_learning_rate
from datanas.engine.starting import start_from
from datanas.engine.steps import Averaging, autocast, update
from datanas.kernels.hardware import place
from datanas.kernels.mixed import set_drop_path
from datanas.kernels.norm import synchronise
from datanas.tasks.base import Part, Task


class TrainJob(Job):
    """A training under way: network, optimiser, and the average of the weights where one is kept.

    Args:
        start: weights of stem and body that the network starts with; None for fresh ones.

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
        start: Mapping[str, Tensor] | None = None,
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
            task.split_train(settings.validation, settings.batch_size)
        self.network = network_for(architecture, config, task)
        if start is not None:
            start_from(self.network, start, f"train.start_from: {settings.start_from}")
        place(self.network, device)
        if config.sync_batch_norm:
            synchronise(self.network, processes)
        self._reach = seeding.reach_of(self.network, task, is_compiled=settings.compile)
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
        whole, place = divmod(step, self.steps_per_epoch)
        what = f"step {step + 1}, batch {place + 1} of epoch {whole + 1}"
        own = self._processes.own_key
        with seeding.keyed(self.config.seed, "train", step, *own, reach=self._reach):
            with autocast(self.device, settings.precision):
                batch = self.task.batch(self._part, step)
                set_learning_rate(self._optimizer, self._rate(step) * self.task.rate(batch))
                loss = self.task.loss(self._run, batch)
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
            with evaluating(self.evaluated) as network:
                found = self.task.monitor(network, self.held_out)
            figures |= {f"validation/{name}": value for name, value in found.items()}
            reached = self.task.preference(found)
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
