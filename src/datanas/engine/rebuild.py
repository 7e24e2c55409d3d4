"""The network that a configuration describes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.engine.config import Config, require_cells
from datanas.network import Network, builder_of
from datanas.spaces import spaces
from datanas.tasks import tasks
from datanas.tasks.base import Task


def network_for(architecture: Architecture, config: Config, task: Task[Any]) -> Network:
    """The network that the configuration's `train` section describes, with fresh weights keyed by the seed.

    Raises:
        ArchitectureError: the space or an operation is not known; the message names the file it was loaded from.
        ConfigError: there is no such network of this architecture for this task.
    """
    with seeding.keyed(config.seed, "network"), architecture.naming_file():
        stem = task.make_stem(config.train.channels)
        return network_around(architecture, config, type(task), stem, partial(task.make_head, stem=stem))


def network_around(
    architecture: Architecture,
    config: Config,
    task: type[Task[Any]],
    stem: nn.Module,
    make_head: Callable[[tuple[int, ...]], nn.Module],
) -> Network:
    """The network that the configuration's `train` section describes, between this stem and head.

    Raises:
        ArchitectureError, ConfigError: as `network_for`.
    """
    settings = config.train
    try:
        network = Network(
            architecture,
            stem,
            make_head,
            channels=settings.channels,
            cells=settings.cells,
            auxiliary=settings.auxiliary,
            pooling_norm=settings.pooling_norm,
            prune=settings.prune,
        )
    except ConfigError:
        _require_task(architecture, task, config.task.name)
        raise
    if architecture.space in spaces:
        require_cells(config, architecture.space)  # not before: of a task that does not fit, cells are not the fault
    return network


def dead_parts(architecture: Architecture, config: Config) -> str:
    """What of an architecture takes no part in the network of `train`, for people; empty where all of it does."""
    text = builder_of(architecture).count_live(architecture, config.train.cells).text()
    if not text:
        return ""
    return f"{text}; " + ("left out" if config.train.prune else "built all the same, since train.prune is false")


def _require_task(architecture: Architecture, task: type[Task[Any]], named: str) -> None:
    """Refuse an architecture for another kind of task.

    Raises:
        ConfigError: the networks of the task are made of other cells than those of the architecture's space.
    """
    cells = tasks[builder_of(architecture).task].cells
    if not cells or not task.cells or cells == task.cells:
        return
    name = (architecture.source or {}).get("name") or architecture.file or "an architecture"
    raise ConfigError(
        f"task.name: {name} of space {architecture.space} cannot be trained on task {named}, which takes "
        f"{task.cells}; it is for tasks such as {builder_of(architecture).task}"
    )
