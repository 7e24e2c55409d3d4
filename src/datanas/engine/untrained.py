"""Cells compared before any training: which random ones a race takes, and where alpha starts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.codes.liveness import lets_through
from datanas.core import seeding
from datanas.engine.config import Config
from datanas.engine.proxies import naswot, rank_sums, synflow
from datanas.engine.rebuild import network_for
from datanas.samplers.interface import BaseSampler
from datanas.samplers.prior import PriorConfig, prior_logits
from datanas.samplers.uniform import random_codes
from datanas.spaces import spaces
from datanas.tasks.base import Task

PRIOR_CHILDREN = 128
"""Random cells that are scored to say where alpha starts, where nothing else is said."""
_EXAMPLES, _SIDE, _CHANNELS = 16, 32, 8  # what cells are scored on and with, at most


def scores_apply(task: Task[Any]) -> bool:
    """Whether a task's networks can be scored before training: those that read images can."""
    example = task.example()
    return isinstance(example, Tensor) and example.is_floating_point() and example.ndim == 4


def untrained_scores(cells: Sequence[Architecture], config: Config, task: Task[Any]) -> list[float]:
    """The sum of the ranks of each cell by naswot and by synflow, the least for the worst.

    They are scored as small networks on noise, since the scores are to tell cells from each other. A cell that lets
    nothing through is the worst by both.

    Args:
        config: of their training, but for its size.
        task: one of which `scores_apply`.
    """
    example = task.example()
    with seeding.keyed(config.seed, "race/scored"):
        x = torch.randn(_EXAMPLES, example.shape[1], *(min(size, _SIDE) for size in example.shape[2:]))
    train = config.train.model_copy(update={"max_macs": None})
    size = spaces[config.space.name].smallest(train.network_config, _CHANNELS)
    small = config.model_copy(update={"train": train.with_network(size)})
    by_proxy: list[list[float]] = [[], []]
    for each in cells:
        if not all(lets_through(part) for part in each.cells.values()):
            for scores in by_proxy:
                scores.append(-math.inf)
            continue
        network = network_for(each, small, task).cpu()
        with seeding.keyed(config.seed, "untrained", reach=seeding.reach_of(network)):  # others' operations may draw
            by_proxy[0].append(naswot(network, x))
            by_proxy[1].append(synflow(network, x[:1]))
    return rank_sums(by_proxy) if cells else []


def prior_children(config: Config) -> int:
    """How many random cells say where alpha starts."""
    prior = _prior(config)
    if prior is None:
        return 0
    if prior.children is not None:
        return prior.children
    return PRIOR_CHILDREN if spaces[config.space.name].scores_help and not config.widens else 0


def start_alpha(sampler: BaseSampler, config: Config, task: Task[Any]) -> None:
    """Start alpha from the scores of random cells, where the sampler's settings ask for it and the task allows it."""
    prior, count = _prior(config), prior_children(config)
    if prior is None or count == 0 or not scores_apply(task):
        return

    def logits() -> bytes:
        generator = seeding.generator(config.seed, "prior")
        codes = [random_codes(sampler.groups, generator) for _ in range(count)]
        scores = untrained_scores([sampler.assemble(each) for each in codes], config, task)
        tables = prior_logits(codes, scores, sampler.vectors)
        return json.dumps({name: table.tolist() for name, table in tables.items()}).encode()

    tables: Mapping[str, Any] = json.loads(task.processes.first(logits))
    sampler.start_from({name: prior.strength * torch.tensor(table) for name, table in tables.items()})


def _prior(config: Config) -> PriorConfig | None:
    prior = getattr(config.sampler, "prior", None)
    return prior if isinstance(prior, PriorConfig) else None
