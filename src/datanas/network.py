"""Stem, body and head: with every candidate of a space, as a supernet, or with the chosen operations alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from datanas.codes.architecture import Architecture
from datanas.codes.liveness import LiveCount, live_edges
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import ComponentConfig, validate
from datanas.kernels.gates import Gates
from datanas.lookup import find_architecture
from datanas.references import references
from datanas.spaces import MODULE, spaces
from datanas.spaces.base import Body, NetworkBuilder, Space, read_out
from datanas.spaces.network_config import NetworkConfig
from datanas.tasks import tasks


class Network(nn.Module):
    """A function of an input alone.

    Args:
        stem: the task's way in.
        body: what a space or a reference has built behind it.
        make_head: the task's way out, from the widths of the body's features.
    """

    def __init__(self, stem: nn.Module, body: Body, make_head: Callable[[tuple[int, ...]], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Identity() if body.is_whole else stem
        self.body: nn.Module = body
        self.head = nn.Identity() if body.is_whole else make_head(body.out_channels)

    def forward(self, x: Any) -> Any:
        return read_out(self.head, self.body(self.stem(x)), x)


class Supernet(Network):
    """`(x, gates) -> output`, where gates are given for each choice group (Eq. 4). It holds no alpha and draws nothing.

    Where no gradient of the gates is asked for, only what is live runs: what lies on no path from the group's inputs to
    its outputs cannot change the output.

    Args:
        space: builds the body.
        stem, make_head: as for `Network`.
        partial_channels: let candidates see one of so many parts of the channels.
    """

    def __init__(
        self,
        space: Space,
        stem: nn.Module,
        make_head: Callable[[tuple[int, ...]], nn.Module],
        *,
        partial_channels: int = 1,
    ) -> None:
        is_whole = partial_channels == 1
        body = space.supernet_body(stem) if is_whole else space.partial_body(stem, partial_channels)
        super().__init__(stem, body, make_head)
        # Where candidates see a part of the channels, the rest passes by whatever is open.
        self._groups = space.groups() if is_whole else {}

    def forward(self, x: Any, gates: Mapping[str, Gates]) -> Any:  # type: ignore[override]
        live = {name: self._live(name, group) for name, group in gates.items()}
        return read_out(self.head, self.body(self.stem(x), live), x)

    def _live(self, name: str, gates: Gates) -> Gates:
        group = self._groups.get(name)
        if group is None or gates.dense or gates.learns:
            return gates
        is_open = [any(value != 0 for op, value in enumerate(row) if op != group.null) for row in gates.host]
        live = live_edges(group.edges, is_open, group.outputs, group.inputs).edges
        return gates if list(live) == is_open else gates.closed_where([not each for each in live])

    def child(self, gates: Mapping[str, Gates]) -> Callable[[Any], Any]:
        """The sampled network inside the supernet, as a function of its input alone."""
        return partial(self.forward, gates=gates)


def rebuild_network(
    architecture: Architecture,
    stem: nn.Module,
    make_head: Callable[[tuple[int, ...]], nn.Module],
    settings: NetworkConfig,
) -> Network:
    """The chosen cells between a task's stem and head, with fresh weights.

    Args:
        settings: of the network, as the `Network` of its space or reference has them.

    Raises:
        ArchitectureError, ConfigError: as `NetworkBuilder.network_body`.
    """
    body = _told(builder_of(architecture).network_body, settings, architecture, stem)
    if leave_out := getattr(stem, "leave_out_unread", None):
        leave_out(body.reads)
    return Network(stem, body, make_head)


def count_live(architecture: Architecture, settings: NetworkConfig) -> LiveCount:
    """How much of a network of an architecture is live."""
    count: LiveCount = _told(builder_of(architecture).count_live, settings, architecture)
    return count


def _told(method: Callable[..., Any], settings: NetworkConfig, *args: Any) -> Any:
    """What a builder's method makes of settings; one of version 0.1 takes them as keywords."""
    names = signature(method).parameters
    if "settings" in names:
        return method(*args, settings=settings)
    return method(*args, **{name: value for name, value in settings if name in names})


def build_network(
    architecture: Architecture | str | Path,
    task: str | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    auxiliary: bool = False,
    *,
    in_channels: int | None = None,
    pooling_norm: bool = False,
    prune: bool = True,
    **task_options: Any,
) -> Network:
    """Rebuild an architecture as a network with fresh weights.

    Args:
        architecture: a searched or published one: itself, the path of its file or run folder, or its name.
        task: whose stem and head to use; None for the one that its space serves.
        num_classes: outputs of the head; None for what the task takes where there are no data (10 classes of images).
        channels: width of the first cell; None for what suits the space (36).
        cells: depth; reduction cells stand at 1/3 and 2/3 of it. None for what suits the space (20).
        auxiliary: add the auxiliary tower. It is used in training mode only, where the network then returns
            (output, auxiliary output).
        in_channels: channels of the input; None for what the task takes (3).
        pooling_norm: batch norm after pooling, as while searching.
        prune: leave out operations and cells that cannot reach the output, or that the input does not reach; otherwise
            they are built and counted, and learn nothing.
        task_options: settings of the task, such as `stem="imagenet"`.

    Returns:
        A module from the task's input to its output: for classification from (batch, in_channels, height, width) to
        (batch, num_classes).

    Raises:
        ArchitectureError: unknown operation or space.
        ConfigError: unknown task or option.

    >>> network = build_network("darts_v2", num_classes=10, channels=4, cells=3)
    >>> network(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    architecture = find_architecture(architecture)
    sizes = {"channels": channels, "cells": cells}
    given = {**sizes, "auxiliary": auxiliary, "pooling_norm": pooling_norm, "prune": prune}
    settings = network_config(builder_of(architecture), given)
    return network_for_task(architecture, settings, task, num_classes, in_channels, task_options)


def network_config(builder: type[NetworkBuilder], given: Mapping[str, Any]) -> NetworkConfig:
    """The settings of a network of this kind from what is given of those of any; None is what suits it.

    Raises:
        ConfigError: its networks have no such setting, or no such value of it.
    """
    usual = dict(zip(("channels", "cells"), getattr(builder, "network_size", ()), strict=False))  # of version 0.1
    given = {name: value for name, value in given.items() if value is not None}
    for label in sorted(given.keys() & {"channels", "cells"}):
        _require_one(label, given[label])
    return validate(builder.Network, builder.own_settings({**usual, **given}))


def network_for_task(
    architecture: Architecture,
    settings: NetworkConfig,
    task: str | None,
    num_classes: int | None,
    in_channels: int | None,
    options: Mapping[str, Any],
) -> Network:
    """As `build_network`, which says what None stands for, from the settings of the architecture's kind of network."""
    builder = builder_of(architecture)
    task = builder.task if task is None else task
    entry = tasks[task]
    num_classes = entry.default_classes if num_classes is None else num_classes
    _require_one("num_classes", num_classes)
    config = task_settings(builder, task, options)
    stem = entry.stem(config, entry.inputs(num_classes) if in_channels is None else in_channels, settings.width)
    return rebuild_network(
        architecture, stem, lambda widths: entry.tied_head(config, widths, num_classes, stem), settings
    )


def _require_one(label: str, count: int) -> None:
    if count < 1:
        raise ConfigError(f"{label} must be at least 1, got {count}")


def task_settings(builder: type[NetworkBuilder], task: str, options: Mapping[str, Any]) -> ComponentConfig:
    """The settings of a task around networks of this kind, whose defaults stand where `options` say nothing.

    Raises:
        ConfigError: unknown task or option.
    """
    suited = builder.defaults.get("task", {})
    under = suited if suited.get("name") == task else {}
    return validate(tasks[task].Config, {**under, "name": task, **options}, "task")


def builder_of(architecture: Architecture) -> type[NetworkBuilder]:
    """What builds networks of an architecture: its space, or the reference that it stands for.

    Raises:
        ArchitectureError: it is not known here.
    """
    name = architecture.space
    if name in spaces:
        return spaces[name]
    if name in references:
        return references[name]
    if name == MODULE:
        raise ArchitectureError(
            "space: this architecture belongs to a module with choices in it; datanas.resolve(module, architecture) "
            "rebuilds it"
        )
    known = ", ".join(sorted([*spaces, *references]))
    raise ArchitectureError(f"space: no space {name!r} is known here; known: {known}")
