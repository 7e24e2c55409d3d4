"""The network that a configuration describes."""

from __future__ import annotations

from functools import partial
from typing import Any

from datanas import seeding
from datanas.architecture import Architecture
from datanas.engine.config import Config, require_cells
from datanas.network import Network
from datanas.spaces import spaces
from datanas.tasks.base import Task


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
