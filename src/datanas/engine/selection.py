"""The best of several architectures by the weights of a supernet: the rule `best_sample`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.engine.gap import architecture_gates, batch_statistics, re_estimated
from datanas.engine.sections import GapConfig
from datanas.network import Supernet
from datanas.tasks.base import Task

FIRST_EXAMPLES, FINALISTS = 250, 10


def rank_architectures(
    architectures: Sequence[Architecture],
    supernet: Supernet,
    task: Task[Any],
    settings: GapConfig,
    *,
    device: torch.device,
    seed: int,
    n: int = 1,
) -> list[tuple[Architecture, float]]:
    """The architectures that do best in the supernet on the alpha part, best first, with their scores.

    As in Li and Talwalkar (UAI 2019) all are compared on few examples first, here with each batch's own statistics; the
    best ten, or `n`, are measured as the gap meter measures the child that is kept. Changes nothing.
    """
    finalists = max(FINALISTS, n)
    training, state = supernet.training, deepcopy(task.state_dict())
    supernet.eval()
    try:
        with seeding.keyed(seed, "selection", *task.processes.own_key, reach=seeding.reach_of(supernet, task)):
            if len(architectures) > finalists:
                with batch_statistics(supernet):
                    quick = [_measure(each, supernet, task, FIRST_EXAMPLES, device) for each in architectures]
                order = sorted(range(len(architectures)), key=lambda index: -task.selection_score(quick[index]))
                architectures = [architectures[index] for index in order[:finalists]]
            batches = [task.batch("weights", index) for index in range(settings.statistics_batches)]
            measured = []
            for each in architectures:
                with re_estimated(supernet, task, supernet.child(architecture_gates(each, device)), batches):
                    measured.append((each, _measure(each, supernet, task, settings.examples, device)))
    finally:
        supernet.train(training)
        task.load_state_dict(state)
    ranking = sorted(measured, key=lambda pair: -task.selection_score(pair[1]))
    return [(each, figures[task.metric.name]) for each, figures in ranking]


def _measure(
    architecture: Architecture, supernet: Supernet, task: Task[Any], examples: int | None, device: torch.device
) -> dict[str, float]:
    model = supernet.child(architecture_gates(architecture, device))
    return task.evaluate(model, "alpha", examples)
