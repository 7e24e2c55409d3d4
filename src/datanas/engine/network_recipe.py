"""What a network is built from where no data are at hand, as plain values that another process can be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.engine.config import Config
from datanas.engine.width import on_meta
from datanas.kernels.hardware import count_macs
from datanas.network import Network, builder_of, count_live, network_config, network_for_task, task_settings
from datanas.spaces.network_config import NetworkConfig
from datanas.tasks import tasks
from datanas.tasks.base import Task


@dataclass(frozen=True)
class NetworkRecipe:
    """A network and the size of its examples.

    Attributes:
        architecture: what is built.
        task: by name; None for the one that its space serves.
        options: settings of the task.
        classes, in_channels: as for `build_network`.
        network: its settings, as its kind of network declares them; an auxiliary tower is left out.
        size: width and height of the images; None for what the task takes.

    Raises:
        ConfigError: no such task; a size below 1, or one for a task that has none.
        ArchitectureError: the architecture's space is not known.
    """

    architecture: Architecture
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    in_channels: int | None = None

    def __post_init__(self) -> None:
        kind, size = self.kind, self.size
        if size is not None and min(size) < 1:
            raise ConfigError(f"--size: must be at least 1, got {min(size)}")
        if size is not None and kind.default_size is None:
            raise ConfigError(f"--size: {kind.one()} has none; leave it out")
        if size is None and kind.default_size is not None:
            object.__setattr__(self, "size", (kind.default_size, kind.default_size))

    @property
    def kind(self) -> type[Task[Any]]:
        """The task."""
        return tasks[self.task or builder_of(self.architecture).task]

    @property
    def settings(self) -> NetworkConfig:
        """The settings of the network, with its kind's defaults."""
        settings = network_config(builder_of(self.architecture), {"auxiliary": False, **self.network})
        return settings.untowered()

    def build(self, width: int | None = None) -> Network:
        """The network with fresh weights; of another width where one is given."""
        settings = self.settings if width is None else self.settings.at_width(width)
        task = self.task or builder_of(self.architecture).task
        options = {name: value for name, value in self.options.items() if name != "name"}
        return network_for_task(self.architecture, settings, task, self.classes, self.in_channels, options)

    def example(self, batch: int, device: torch.device) -> Any:
        """A made-up input of so many examples."""
        builder, kind = builder_of(self.architecture), self.kind
        given = {name: value for name, value in self.options.items() if name != "name"}
        settings = task_settings(builder, self.task or builder.task, given)
        inputs = self.in_channels
        if inputs is None:
            inputs = kind.inputs(kind.default_classes if self.classes is None else self.classes)
        width, height = self.size or (1, 1)
        example = kind.example_input(settings, inputs, max(height, width), batch, device)
        return example if height == width else example[..., :height, :width].clone(memory_format=torch.channels_last)

    def infer(self, network: Network, x: Any) -> Any:
        """A forward pass, with what the task computes from its output."""
        return self.kind.answer(network(x))

    def macs(self, width: int | None = None) -> int:
        """Multiply-adds of one example; nothing is computed."""
        with on_meta():
            return count_macs(self.build(width), self.example(1, torch.device("meta")))

    def dead_parts(self) -> str:
        """What of the architecture takes no part, for people; empty where all of it does."""
        return count_live(self.architecture, self.settings).text()

    @classmethod
    def of_training(cls, architecture: Architecture, config: Config, task: Task[Any]) -> NetworkRecipe:
        """The network that the configuration's `train` section makes of an architecture for this task's data."""
        shape = task.example_shape
        return cls(
            architecture,
            config.task.name,
            config.task.model_dump(mode="json"),
            task.num_classes,
            dict(config.train.network_config),
            (shape[2], shape[1]) if len(shape) == 3 else None,
            shape[0] if len(shape) == 3 else None,
        )

    def to_plain(self) -> dict[str, Any]:
        """As JSON types."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            **values,
            "options": dict(self.options),
            "network": dict(self.network),
            "architecture": self.architecture.to_json(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> NetworkRecipe:
        """What `to_plain` gave, also after a way through JSON."""
        size = plain["size"]
        architecture = Architecture.from_json(plain["architecture"])
        return cls(**{**plain, "architecture": architecture, "size": None if size is None else tuple(size)})
