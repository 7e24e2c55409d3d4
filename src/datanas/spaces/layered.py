"""Spaces of whole networks: layers in a row, each with a choice of its own among operations that may change shapes."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.layer_code import IDENTITY
from datanas.codes.liveness import LiveCell, LiveCount, live_cell
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import move_to
from datanas.kernels.mixed import MixedNode
from datanas.kernels.norm import BatchNorm2d
from datanas.ops import OpSettings, operations
from datanas.ops.conv import PointwiseConv
from datanas.ops.identity import Zero
from datanas.spaces.base import Body, Costs, Space, StemShape
from datanas.spaces.network_config import NetworkConfig
from datanas.spaces.plans import feature_size, free_name, network_plan, operation_cost, supernet_plan
from datanas.spaces.workload import CellWork, Workload

_PER_CENT = 100
"""Channels of a stem at which the widths of layers are not rounded."""


@dataclass(frozen=True)
class Layer:
    """One layer of a network, whatever runs in it.

    Attributes:
        group, edge: the choice group that it belongs to, and its row there.
        channels, out_channels: of what it reads and gives.
        stride: by which it divides height and width, rounding up.
    """

    group: str
    edge: int
    channels: int
    out_channels: int
    stride: int = 1

    @property
    def changes_shape(self) -> bool:
        return self.stride != 1 or self.channels != self.out_channels

    def settings(self, *, affine: bool = True) -> OpSettings:
        """What its operations are built for."""
        return OpSettings(self.channels, self.stride, affine, out_channels=self.out_channels)


class LayeredConfig(NetworkConfig):
    """The settings of a network of layers in a row."""

    channels: int = Field(32, ge=1, description="channels of the stem; those of the layers follow")
    features: int = Field(1280, ge=1, description="channels of the last 1x1 convolution, before pooling")

    def text(self) -> str:
        return f"{self.channels} channels in the stem"


class LayeredBody(Body):
    """ReLU, the layers in a row, a 1x1 convolution with batch norm and ReLU.

    Args:
        layers: in order.
        choices: the operations of each group; of each layer those on its edge are built.
        features: channels of the last convolution.
        affine: whether the batch norms of the operations learn a scale and a shift.
    """

    reads = (False, True)

    def __init__(
        self,
        layers: Sequence[Layer],
        choices: Mapping[str, Iterable[CellOperation[str]]],
        features: int,
        *,
        affine: bool,
    ) -> None:
        super().__init__()
        by_edge: dict[tuple[str, int], list[CellOperation[str]]] = defaultdict(list)
        for group, group_choices in choices.items():
            for choice in group_choices:
                by_edge[group, choice.edge].append(choice)
        self._groups = [layer.group for layer in layers]
        self.layers = nn.ModuleList(
            _node(layer, by_edge[layer.group, layer.edge], layer.settings(affine=affine)) for layer in layers
        )
        self.last = nn.Sequential(PointwiseConv(layers[-1].out_channels, features), BatchNorm2d(features), nn.ReLU())
        self.out_channels = (features,)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None) -> tuple[Tensor]:
        """One feature map (batch, features, height, width)."""
        x = stem[1].relu()
        for group, layer in zip(self._groups, self.layers, strict=True):
            x = layer([x], None if gates is None else gates[group])
        return (self.last(x),)


def _node(layer: Layer, choices: Sequence[CellOperation[str]], settings: OpSettings) -> MixedNode:
    by_name: dict[str, CellOperation[nn.Module]] = {}
    for choice in choices:
        by_name[free_name(choice.operation, by_name)] = replace(choice, source=0, target=1).built(
            operations[choice.operation](settings)
        )
    return MixedNode(by_name, Zero(layer.stride, layer.out_channels))


class LayeredSpace(Space):
    """A space of layers in a row, each of which is an edge of a choice group that is a chain.

    A space of this kind defines `groups`, and `layers` of its supernet and of a network.
    """

    Network: ClassVar[type[NetworkConfig]] = LayeredConfig
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1}
    is_one_network: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {"task": {"name": "classification", "stem": "plain"}}
    config: Any

    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the supernet, in order."""

    @classmethod
    @abstractmethod
    def network_layers(cls, architecture: Architecture, channels: int) -> tuple[Layer, ...]:
        """The layers of a network behind a stem of so many channels.

        Raises:
            ArchitectureError: it is no network of this space.
        """

    @property
    def width(self) -> int:
        return cast(int, self.config.channels)

    @classmethod
    def first_sizes(cls, *, has_many: bool) -> dict[str, dict[str, Any]]:
        return {"space": {"channels": 8, "features": 128}, "train": {"channels": 16, "features": 256}}

    def supernet_body(self, stem: nn.Module) -> LayeredBody:
        self._require_stem(stem, self.width)
        choices = {name: supernet_plan(group).choices for name, group in self.groups().items()}
        return LayeredBody(self.layers(), choices, self.config.features, affine=False)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Any) -> LayeredBody:
        """As in `Space`. Nothing of it is ever dead but all of it, where a layer has no operation."""
        cls._require_stem(stem, settings.channels)
        layers = cls.network_layers(architecture, settings.channels)
        cls._require_layers(architecture, layers)
        choices = {name: network_plan(architecture, name).choices for name in architecture.cells}
        return LayeredBody(layers, choices, settings.features, affine=True)

    @classmethod
    def _require_stem(cls, stem: nn.Module, channels: int) -> None:
        shape = getattr(stem, "shape", None)
        if not isinstance(shape, StemShape) or shape.channels[1] != channels or shape.dense:
            raise ConfigError(
                f"task.stem: {cls.name} needs a stem of its own width, such as plain, and cannot keep the resolution"
            )

    @classmethod
    def _require_layers(cls, architecture: Architecture, layers: Sequence[Layer]) -> None:
        """Refuse an architecture of other layers.

        Raises:
            ArchitectureError: it is.
        """
        wanted: dict[str, int] = defaultdict(int)
        for layer in layers:
            wanted[layer.group] += 1
        given = {name: len(cell.edges) for name, cell in architecture.cells.items()}
        if given != wanted:
            raise ArchitectureError(
                f"cells: a network of space {cls.name} has {_counted(wanted)}; the architecture has {_counted(given)}"
            )
        for name, cell in architecture.cells.items():
            if cell.inputs != 1 or any(target != source + 1 for source, target in cell.edges):
                raise ArchitectureError(f"cells.{name}: must be layers in a row, with the edges [0, 1], [1, 2], ...")

    @classmethod
    def count_live(cls, architecture: Architecture, settings: Any) -> LiveCount:
        chosen = sum(int(code.sum()) for code in architecture.code.values())
        is_whole = _is_whole(architecture)
        return LiveCount(chosen if is_whole else 0, chosen, int(is_whole), 1)

    @classmethod
    def network_key(cls, architecture: Architecture) -> tuple[Any, ...]:
        """As in `NetworkBuilder`: the layers in order, without those that only pass their input on."""
        parts: list[Any] = []
        for layer in cls.network_layers(architecture, channels=_PER_CENT):
            cell, factors = architecture.cells[layer.group], architecture.weights(layer.group)[layer.edge]
            chosen = {name: float(factor) for name, factor in zip(cell.primitives, factors, strict=True) if factor}
            if chosen != {IDENTITY: 1.0} or layer.changes_shape:
                parts.append((layer.channels, layer.out_channels, layer.stride, tuple(sorted(chosen.items()))))
        return tuple(parts)

    def identities(self, group: str) -> frozenset[str]:
        free = self.parameter_free(group)
        return frozenset({IDENTITY} & free)

    def parameter_free(self, group: str) -> frozenset[str]:
        layers = [layer for layer in self.layers() if layer.group == group]
        names = self.groups()[group].primitives
        return frozenset(name for name in names if not any(_cost(name, layer, (4, 4))[0] for layer in layers))

    def costs(self, stem: nn.Module, example: Tensor) -> dict[str, Costs]:
        groups = self.groups()
        costs = {name: Costs(np.zeros(group.shape), np.zeros(group.shape)) for name, group in groups.items()}
        for layer, size in self._sized(stem, example):
            for op, primitive in enumerate(groups[layer.group].primitives):
                parameters, macs = _cost(primitive, layer, size)
                costs[layer.group].parameters[layer.edge, op] = parameters
                costs[layer.group].macs[layer.edge, op] = macs
        return costs

    def _sized(self, stem: nn.Module, example: Tensor) -> list[tuple[Layer, tuple[int, int]]]:
        """Each layer with height and width of what it reads."""
        height, width = feature_size(stem, example)
        sized = []
        for layer in self.layers():
            sized.append((layer, (height, width)))
            height, width = -(-height // layer.stride), -(-width // layer.stride)
        return sized

    def at_size(self, channels: int, cells: int) -> LayeredSpace:
        if cells != 1:
            raise ConfigError(f"train.cells: a {self.name} network has none; leave it out, got {cells}")
        make: Any = type(self)
        space: LayeredSpace = make(self.config.model_copy(update={"channels": channels}))
        return space

    def work(self, stem: nn.Module, example: Tensor) -> list[CellWork]:
        """A row for each layer, in the order of the groups."""
        groups = self.groups()
        rows: dict[str, list[tuple[Workload | None, ...]]] = {name: [] for name in groups}
        for layer, size in self._sized(stem, example):
            rows[layer.group].append(
                tuple(
                    Workload(name, layer.channels, layer.stride, size, out_channels=layer.out_channels)
                    for name in groups[layer.group].primitives
                )
            )
        return [CellWork(name, tuple(table)) for name, table in rows.items()]

    def live_cells(self, architecture: Architecture) -> list[LiveCell | None]:
        is_whole = _is_whole(architecture)
        return [live_cell(architecture.cells[name]) if is_whole else None for name in self.groups()]

    def probe(
        self, workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
    ) -> Callable[[], object]:
        layer = Layer("", 0, workload.channels, workload.out_channels or workload.channels, workload.stride)
        node = _node(layer, [CellOperation(0, 0, 0, 1, workload.primitive)], layer.settings())
        node = move_to(node, device).eval()
        x = torch.randn(batch, workload.channels, *workload.size, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        return lambda: node([x])


def _is_whole(architecture: Architecture) -> bool:
    """Whether every layer has an operation, so that the input reaches the output."""
    return all(bool(code.any(axis=1).all()) for code in architecture.code.values())


def _cost(primitive: str, layer: Layer, size: tuple[int, int]) -> tuple[int, int]:
    return operation_cost(primitive, layer.channels, layer.stride, size, layer.out_channels)


def _counted(layers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} of {count}" for name, count in sorted(layers.items()))
