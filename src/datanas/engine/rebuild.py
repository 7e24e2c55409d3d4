"""The network that a configuration describes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.components import COMPONENTS
from datanas.engine.config import Config, resolve
from datanas.engine.sections import train_config
from datanas.network import Network, builder_of, count_live, rebuild_network
from datanas.references import references
from datanas.spaces import spaces
from datanas.tasks import tasks
from datanas.tasks.base import Task


def with_network_of(config: Config, architecture: Architecture) -> Config:
    """The configuration of a training of this architecture, whose `train` section describes a network of its kind.

    A reference keeps what it has a setting for, and is trained with its own `settings` whatever the configuration says;
    those of a component hold where the configuration has that component. Of an architecture of the configuration's own
    space nothing changes.

    Raises:
        ConfigError: the network has no such settings, or the task takes no such cells.
    """
    name, train = architecture.space, config.train
    described = train.network or config.space.name
    if name not in references and (name not in spaces or name == described):
        return config
    _require_task(architecture, tasks[config.task.name], config.task.name)
    is_given, known = set(train.model_fields_set), train_config(builder_of(architecture).Network).model_fields
    own = references[name].settings_for(architecture, config.task.name) if name in references else {}
    own = {key: each for key, each in own.items() if key not in COMPONENTS or each["name"] == getattr(config, key).name}
    if name in references:
        is_given &= known.keys()
    raw = config.model_dump(mode="json")
    raw["train"] = {key: value for key, value in raw["train"].items() if key in known or key in is_given}
    raw["train"]["network"] = None if name == config.space.name else name
    resolved = resolve(merge(raw, own))
    resolved.train.model_fields_set.intersection_update(is_given)  # `earlier.keep_unsaid` asks what was given
    return resolved


def network_for(architecture: Architecture, config: Config, task: Task[Any]) -> Network:
    """The network that the configuration's `train` section describes, with fresh weights keyed by the seed.

    Raises:
        ArchitectureError: the space or an operation is not known; the message names the file it was loaded from.
        ConfigError: there is no such network of this architecture for this task.
    """
    with seeding.keyed(config.seed, "network"), architecture.naming_file():
        config = with_network_of(config, architecture)
        stem = task.make_stem(config.train.network_config.width)
        return network_around(architecture, config, type(task), stem, partial(task.make_head, stem=stem))


def network_around(
    architecture: Architecture,
    config: Config,
    task: type[Task[Any]],
    stem: nn.Module,
    make_head: Callable[[tuple[int, ...]], nn.Module],
) -> Network:
    """The network that the configuration's `train` section describes, between this stem and head.

    Args:
        config: as `with_network_of` has made it.

    Raises:
        ArchitectureError, ConfigError: as `network_for`.
    """
    settings = config.train.network_config
    try:
        network = rebuild_network(architecture, stem, make_head, settings)
    except ConfigError:
        _require_task(architecture, task, config.task.name)
        raise
    if architecture.space in spaces:  # not before: of a task that does not fit, its size is not the fault
        spaces[architecture.space].require_trainable(settings)
    return network


def dead_parts(architecture: Architecture, config: Config) -> str:
    """What of an architecture takes no part in the network of `train`, for people; empty where all of it does."""
    settings = with_network_of(config, architecture).train.network_config
    text = count_live(architecture, settings).text()
    if not text:
        return ""
    return f"{text}; " + ("left out" if settings.is_pruned else "built all the same, since train.prune is false")


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
