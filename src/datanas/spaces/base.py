"""What a search space tells the rest: its choice groups, its bodies and its costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCell, LiveCount, live_cell
from datanas.core.errors import ConfigError
from datanas.core.settings import ComponentConfig, typed
from datanas.spaces.network_config import NetworkConfig, ToweredConfig
from datanas.spaces.workload import CellWork, Workload


@dataclass(frozen=True)
class StemShape:
    """What an image stem hands to a body: two feature maps, the second as large as the first or half as large.

    Such a stem (others hand over what their spaces agree on) has one as its attribute `shape`. One that can do without
    a part of itself that the body does not read has a method `leave_out_unread`, which is given `Body.reads`.

    Attributes:
        channels: channels of the two feature maps.
        halved: whether the second has half the resolution of the first.
        dense: so many of the body's last reduction cells are to keep the resolution, for a task that needs it: they
            and what follows are computed at every place at which the strided cells might have been.
    """

    channels: tuple[int, int]
    halved: bool = False
    dense: int = 0


@dataclass(frozen=True)
class Costs:
    """Additive costs of one group's operations over the whole supernet, each of shape (edges, ops).

    Attributes:
        parameters: learned numbers.
        macs: multiply-adds of one forward pass of one example.
    """

    parameters: np.ndarray
    macs: np.ndarray


class Body(nn.Module):
    """What a space builds between a stem and a head.

    Attributes:
        out_channels: the width of each of the features that it returns.
        reads: of an image stem's two feature maps, which it reads.
        is_whole: whether it reads the task's input itself and gives the network's output, without a stem and a head.
    """

    is_whole: ClassVar[bool] = False

    out_channels: tuple[int, ...]
    reads: tuple[bool, bool] = (True, True)


def read_out(head: nn.Module, features: Any, x: Any) -> Any:
    """What a head makes of a body's features.

    One with `reads_input = True` is given the network's input besides, such as for its size.
    """
    return head(features, x) if getattr(head, "reads_input", False) else head(features)


class NetworkBuilder(ABC):
    """What builds networks of one kind: a space from its architectures, a reference (`datanas.references`) its own."""

    name: ClassVar[str]
    task: ClassVar[str] = "classification"
    """The task that its networks serve where nothing is said."""
    Network: ClassVar[type[NetworkConfig]] = ToweredConfig
    """What its networks can be set to, with the defaults."""
    fixed: ClassVar[Mapping[str, Any]] = {}
    """What its networks are in settings that those of cells have and they do not, such as `{"cells": 1}`."""
    fewest_cells: ClassVar[int] = 1
    """Of a network that is trained, where its networks have cells."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of other sections that suit it, as `Task.defaults`."""

    @classmethod
    @abstractmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Any) -> Body:
        """The chosen operations only: a module `stem features -> features`, from the same parts as the supernet.

        Args:
            stem: the task's way in, which comes before the body.
            settings: of the network, as `Network` declares them.

        Raises:
            ArchitectureError: the architecture holds an operation that is not known.
            ConfigError: it cannot follow this stem, or has no network of this size.
        """

    @classmethod
    def count_live(cls, architecture: Architecture, settings: Any) -> LiveCount:
        """How much of such a network is live; all of it, where the kind does not know better."""
        chosen, cells = sum(int(code.sum()) for code in architecture.code.values()), getattr(settings, "cells", 1)
        return LiveCount(chosen, chosen, cells, cells)

    @classmethod
    def network_key(cls, architecture: Architecture) -> tuple[Any, ...]:
        """What two architectures share that make the same network: their live operations and the factors of these."""
        parts: list[Any] = []
        for name, cell in architecture.cells.items():
            live = live_cell(cell).code
            parts += [name, live.tobytes(), (architecture.weights(name) * (live > 0)).tobytes()]
        return tuple(parts)

    @classmethod
    def require_trainable(cls, settings: NetworkConfig) -> None:
        """Refuse a network that is smaller than those that are trained.

        Raises:
            ConfigError: it is.
        """
        cells = getattr(settings, "cells", cls.fewest_cells)
        if cells < cls.fewest_cells:
            raise ConfigError(f"train.cells: must be at least {cls.fewest_cells}, got {cells}")

    @classmethod
    def smallest(cls, settings: NetworkConfig, width: int) -> NetworkConfig:
        """The network with as few cells as can be trained, no tower, and at most so wide."""
        narrowed = settings.untowered().at_width(min(width, settings.width))
        return narrowed.model_copy(update={"cells": cls.fewest_cells}) if hasattr(narrowed, "cells") else narrowed

    @classmethod
    def foreign_settings(cls) -> frozenset[str]:
        """Settings of networks of cells that its networks do not have."""
        return frozenset(ToweredConfig.model_fields) - frozenset(cls.Network.model_fields)

    @classmethod
    def own_settings(cls, given: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        """What was given, without the settings of networks of cells that its networks do not have.

        These may say what is so, such as one cell of one layer, and a recipe that says all of them, as those that
        version 0.1 resolved do, may have its defaults.

        Args:
            given: settings of a network, and others, which stay.
            path: stands before a setting's name in messages ("train.").

        Raises:
            ConfigError: one says something else.
        """
        own, every = cls.Network.model_fields, ToweredConfig.model_fields
        others = typed(ToweredConfig, {name: given[name] for name in sorted(cls.foreign_settings() & given.keys())})
        is_resolved = every.keys() - {"prune"} <= given.keys()
        for name, value in others.items():
            so = {"prune": True, **cls.fixed}.get(name, type(every[name].default)(0))
            if value not in (so, False) and not (is_resolved and value == every[name].default):
                raise ConfigError(
                    f"{path}{name}: no setting of {cls.name}, which has {', '.join(own)}; leave it out or at {so}, "
                    f"got {value!r}"
                )
        return {name: value for name, value in given.items() if name not in others}


class Space(NetworkBuilder):
    """A search space, built from its `Config`."""

    Config: ClassVar[type[ComponentConfig]]
    shallow: ClassVar[Mapping[str, Any]] = {}
    """Settings with which its supernet has as few cells as it may have."""
    scores_help: ClassVar[bool] = False
    """Whether searches of it were measured to keep better cells where alpha starts from scores (docs/default.md)."""
    is_one_network: ClassVar[bool] = False
    """Whether its groups are parts of one network, so that one without parameters is no fault."""
    combines: ClassVar[bool] = False
    """Whether it combines what is chosen in ways of its own, so that it is to be given codes as they are drawn."""
    runs_of_probe: ClassVar[int] = 1
    """How often a call of `probe` runs its operation."""

    @abstractmethod
    def groups(self) -> dict[str, ChoiceGroup]:
        """The choice groups by name."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the supernet's first cell, which the stem is built for: channels, or hidden units."""

    @classmethod
    def first_sizes(cls, *, has_many: bool) -> dict[str, dict[str, Any]]:
        """Sections of a recipe whose supernet and network suit a first search of images, many or some thousands."""
        network = {"channels": 16, "auxiliary": False, "drop_path": 0.0}
        return {"train": {name: value for name, value in network.items() if name in cls.Network.model_fields}}

    @abstractmethod
    def supernet_body(self, stem: nn.Module) -> Body:
        """Every candidate on every edge: a module `(stem features, gates by group) -> features`."""

    def partial_body(self, stem: nn.Module, parts: int) -> Body:
        """The same with candidates that see one of `parts` equal parts of the channels (Xu et al., ICLR 2020).

        Raises:
            ConfigError: the space has no such body, or its width cannot be divided so.
        """
        raise ConfigError(f"space.name: {self.name} cannot run its operations on part of the channels")

    @abstractmethod
    def costs(self, stem: nn.Module, example: Any) -> Mapping[str, Costs]:
        """The additive cost of every (edge, operation) behind this stem, for an input like `example`."""

    def require_additive_costs(self) -> None:
        """Refuse a budget where `costs` do not add up to those of what is kept.

        Raises:
            ConfigError: they do not.
        """

    def at_size(self, channels: int, cells: int) -> Space:
        """The space whose supernet is as wide and as deep as a rebuilt network of `channels` and `cells`.

        Its `costs` and `work` are those of such a network.

        Raises:
            ConfigError: there is no such network, or the space cannot tell.
        """
        raise self._cannot("how large its rebuilt networks are")

    def work(self, stem: nn.Module, example: Any) -> Sequence[CellWork]:
        """What every cell of a network as large as the supernet can run behind this stem, for an input like `example`.

        Raises:
            ConfigError: the space does not tell.
        """
        raise self._cannot("at what shapes its operations run")

    def live_cells(self, architecture: Architecture) -> Sequence[LiveCell | None]:
        """What each of these cells runs of an architecture; None for one that is left out whole."""
        raise self._cannot("which of its cells run")

    def probe(
        self, workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
    ) -> Callable[[], object]:
        """A call that runs one operation `runs_of_probe` times as a rebuilt network does, on so many examples."""
        raise self._cannot("how one operation runs alone")

    def _cannot(self, what: str) -> ConfigError:
        return ConfigError(f"space.name: {self.name} does not tell {what}, so that its operations cannot be timed")

    @abstractmethod
    def identities(self, group: str) -> frozenset[str]:
        """The primitives that only pass their input on, in this choice group."""

    @abstractmethod
    def parameter_free(self, group: str) -> frozenset[str]:
        """The primitives that learn nothing, in this choice group."""
