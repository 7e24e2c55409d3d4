"""Whether the parts of a search or a training fit each other: what can be known before there are any data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.settings import ComponentConfig
from datanas.engine.config import Config
from datanas.engine.rebuild import network_around
from datanas.engine.setup import build_sampler, build_space
from datanas.engine.width import on_meta
from datanas.network import Supernet
from datanas.spaces import spaces
from datanas.spaces.base import Space
from datanas.tasks import tasks
from datanas.tasks.base import Task

_fitting: set[tuple[str, str, int]] = set()
"""Space, task and parts of the channels of supernets that could be built."""


def require_search(config: Config) -> None:
    """Refuse a search that could not begin whatever the data are.

    Raises:
        ConfigError: the space has nothing to choose, the method cannot search it or derive from it, no supernet of it
            stands between stem and head of the task, the table of truth is of other cells, or what is kept could not be
            trained as the recipe says.
    """
    space = build_space(config)
    space.require_trainable(config.train.network_config)
    sampler = build_sampler(config, space)
    task = tasks[config.task.name]
    if config.truth.table is not None:
        require_single(space)
    if config.search.shuffled_labels and task.shuffle_labels is Task.shuffle_labels:
        raise ConfigError(f"search.shuffled_labels: task {config.task.name} has no labels to shuffle")
    _require_shares(config, "search", config.search.batch_size)
    key = config.space.model_dump_json(), config.task.model_dump_json(), sampler.partial_channels
    if key in _fitting:
        return
    make: Any = spaces[config.space.name]
    shallow: Space = make(config.space.model_copy(update=make.shallow))
    with seeding.keyed(config.seed, "fit"), on_meta():
        stem = task.stem(config.task, task.inputs(task.default_classes), space.width)
        make_head = _head_maker(task, config.task, stem)
        Supernet(shallow, stem, make_head, partial_channels=sampler.partial_channels)
    _fitting.add(key)


def require_training(config: Config, architecture: Architecture) -> None:
    """Refuse a training that could not begin whatever the data are.

    Raises:
        ArchitectureError: the space or an operation is not known; the message names the file it was loaded from.
        ConfigError: there is no such network of this architecture for this task.
    """
    task = tasks[config.task.name]
    _require_shares(config, "train", config.train.batch_size)
    with seeding.keyed(config.seed, "fit"), architecture.naming_file(), on_meta():
        stem = task.stem(config.task, task.inputs(task.default_classes), config.train.network_config.width)
        make_head = _head_maker(task, config.task, stem)
        network_around(architecture, config, task, stem, make_head)


def _head_maker(
    task: type[Task[Any]], config: ComponentConfig, stem: nn.Module
) -> Callable[[tuple[int, ...]], nn.Module]:
    return lambda widths: task.tied_head(config, widths, task.default_classes, stem)


def require_single(space: Space) -> None:
    """Refuse a table of known accuracies for a space whose cells it cannot hold.

    Raises:
        ConfigError: an edge of the space's cells may hold several operations, or there are several cells.
    """
    groups = space.groups()
    if len(groups) > 1 or not next(iter(groups.values())).single:
        raise ConfigError(
            f"truth.table: a table holds cells of one operation an edge, which space {space.name} does not have"
        )


def _require_shares(config: Config, section: str, size: int) -> None:
    """Refuse a batch that the processes cannot share."""
    processes, task = config.devices * config.num_nodes, tasks[config.task.name]
    if processes > 1 and (size % processes or size // processes < task.smallest_share):
        raise ConfigError(
            f"{section}.batch_size: {size} {task.unit}s cannot be shared by {processes} processes, of which each needs "
            f"as many as the others and at least {task.smallest_share}"
        )
