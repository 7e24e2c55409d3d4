"""The gap meter: how far the supernet, its sampled children and the child to be kept are apart (Table 2, live)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.engine.sections import GapConfig
from datanas.kernels.gates import Gates, host_gates
from datanas.kernels.norm import each_alone, foreign_norms, statistics_kept
from datanas.network import Supernet
from datanas.samplers.interface import BaseSampler
from datanas.tasks.base import Model, Task


@dataclass(frozen=True)
class Gap:
    """Scores on the alpha part.

    Attributes:
        supernet: gates drawn anew for every batch and each batch's own statistics, as while searching; the running
            ones mix those of different children.
        children_mean, children_variance: of sampled children, each with its statistics re-estimated; the variance is
            that of the score in per cent, as the paper prints it, where the score is a share.
        child: the most probable child, with its statistics re-estimated, and the weights of the search.
        inherited: the same with the running statistics of the supernet, which mix those of different children.
        gap: how much worse the child that is kept does than the supernet.
        selection_score: by which the task compares the child that is kept, the higher the better.
    """

    supernet: float
    children_mean: float
    children_variance: float
    child: float
    inherited: float
    gap: float
    selection_score: float

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Gap:
        """What `asdict` made, also in runs of 0.1, where the selection score was called a preference."""
        return cls(**{"selection_score" if name == "preference" else name: float(x) for name, x in data.items()})

    def figures(self) -> dict[str, float]:
        return {f"gap/{name}": value for name, value in asdict(self).items()}

    def text(self, task: type[Task[Any]] | Task[Any]) -> str:
        """The scores in a line, as the task shows them."""
        metric = task.metric
        gap = metric.show_difference(self.gap)
        return (
            f"{metric.name}: supernet {metric.show(self.supernet)}  children {metric.show(self.children_mean)} "
            f"(variance {self.children_variance:.2f})  child kept {metric.show(self.child)}  gap {gap}"
        )


def measure_gap(
    supernet: Supernet,
    sampler: BaseSampler,
    task: Task[Any],
    kept: Architecture,
    settings: GapConfig,
    *,
    device: torch.device,
    seed: int,
    epoch: int,
    progress: float,
) -> Gap:
    """Measure without changing anything: weights, statistics, modes, random numbers and the task's state stay."""

    def measure(model: Model) -> dict[str, float]:
        return task.evaluate(model, "alpha", settings.examples)

    def score(model: Model) -> float:
        return measure(model)[task.metric.name]

    def drawn(generator: torch.Generator) -> dict[str, Gates]:
        with torch.no_grad():
            return host_gates(sampler.draw(progress, generator).gates, device)

    def drawn_in_turn(generator: torch.Generator) -> dict[str, Gates]:
        """One draw for the next batch of each process; this one's."""
        return [drawn(generator) for _ in range(task.processes.size)][task.processes.rank]

    state = deepcopy(task.state_dict())
    batches = [task.batch("weights", index) for index in range(settings.statistics_batches)]
    training = supernet.training
    supernet.eval()
    try:
        with seeding.keyed(seed, "gap", epoch, *task.processes.own_key, reach=seeding.reach_of(supernet, task)):
            generator = seeding.generator(seed, "gap/supernet", epoch)
            with batch_statistics(supernet):
                whole = score(lambda x: supernet(x, drawn_in_turn(generator)))
            children = []
            for index in range(settings.children):
                gates = drawn(seeding.generator(seed, "gap/children", epoch, index))
                with re_estimated(supernet, task, supernet.child(gates), batches):
                    children.append(score(supernet.child(gates)))
            gates = architecture_gates(kept, device)
            inherited = score(supernet.child(gates))
            with re_estimated(supernet, task, supernet.child(gates), batches):
                figures = measure(supernet.child(gates))
    finally:
        supernet.train(training)
        task.load_state_dict(state)
    variance = statistics.variance([task.metric.scale * score for score in children])
    child = figures[task.metric.name]
    gap = task.metric.oriented(whole) - task.metric.oriented(child)
    return Gap(whole, statistics.mean(children), variance, child, inherited, gap, task.selection_score(figures))


def architecture_gates(architecture: Architecture, device: torch.device) -> dict[str, Gates]:
    """The gates that make a supernet behave as an architecture of its space."""
    return host_gates(
        {name: torch.from_numpy(architecture.weights(name)).float() for name in architecture.cells}, device
    )


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Run a block in which batch norm uses each batch's own statistics and leaves the running ones alone."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    modes = [norm.training for norm in norms]
    with statistics_kept(foreign_norms(network)), each_alone(network):
        for norm in norms:
            norm.train()
        try:
            yield
        finally:
            for norm, mode in zip(norms, modes, strict=True):
                norm.train(mode)


@contextmanager
def re_estimated(network: nn.Module, task: Task[Any], model: Model, batches: list[Any]) -> Iterator[None]:
    """Run a block with the batch-norm statistics of `model` taken anew from `batches`, then put the old ones back."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    saved = [({name: buffer.clone() for name, buffer in norm.named_buffers()}, norm.momentum) for norm in norms]
    training = network.training
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        network.train()
        with torch.no_grad():
            for batch in batches:
                task.loss(model, batch)
        buffers = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        task.processes.average(buffers)
        network.eval()
        yield
    finally:
        for norm, (before, momentum) in zip(norms, saved, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(before[name])
        network.train(training)
