"""What a task tells the engine: its batches, its loss, its score, and the stem and head around a body."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from datanas.config import ComponentConfig
from datanas.distributed import ALONE, Processes
from datanas.errors import ConfigError

Model = Callable[[Tensor], Any]
"""A network, or a child bound to its gates: a function of the input alone."""

Part = Literal["weights", "alpha", "train", "validation", "test"]
"""Which examples: the two parts of a search, the two of a training, or the test set."""

BatchT = TypeVar("BatchT")


class Task(ABC, Generic[BatchT]):
    """A problem to search and train for. It never sees gates.

    Args:
        config: the task's settings.
        data: what its data set loaded.
        device: where batches go.
        seed: keys splits, order and augmentation.

    Raises:
        ConfigError: the data is not of the kind that this task takes.
    """

    Config: ClassVar[type[ComponentConfig]]
    score: ClassVar[str]
    """The name of the figure by which networks are compared; higher is better."""
    config: Any
    device: torch.device
    processes: Processes = ALONE
    """Those that share the work. A task that heeds them gives each its share of a batch (`processes.share`) and adds up
    what each finds (`processes.total`); one that does not lets all do the same, which is as right and no faster."""

    @abstractmethod
    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None: ...

    @classmethod
    @abstractmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        """The way into a body whose first cell has `channels`; has a `shape` (StemShape)."""

    @classmethod
    @abstractmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        """The way out of a body that returns feature maps of these widths."""

    @property
    @abstractmethod
    def example_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""

    def example(self) -> Tensor:
        """One input, as a batch of one, on the device; its values do not matter."""
        return torch.zeros(1, *self.example_shape, device=self.device)

    def make_stem(self, channels: int) -> nn.Module:
        """The stem for this data."""
        return self.stem(self.config, self.example_shape[0], channels)

    def make_head(self, widths: tuple[int, ...]) -> nn.Module:
        """The head for this data."""
        return self.head(self.config, widths, self.num_classes)

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Outputs of the head."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What an architecture or report should know of the data: names and counts, JSON types only."""

    def fingerprint(self) -> str:
        """A sum of the examples and of their split: a run goes on with no others."""
        return sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """What the task itself has learned or counted: nested mappings and lists of tensors and plain values.

        The same in all processes: that of the first is saved, and all get it back.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""

    @abstractmethod
    def split_search(self, ratio: str, batch_size: int, images: int | None) -> None:
        """Make the disjoint parts `weights` and `alpha` (Eq. 6) of the training examples, m:n.

        Args:
            images: use only so many examples, balanced over the classes; None for all.
        """

    def shuffle_labels(self) -> None:
        """Give the training examples each other's labels, keyed by the seed: what is learned then means nothing.

        Raises:
            ConfigError: the task has no labels.
        """
        raise ConfigError(f"search.shuffled_labels: task {self.config.name} has no labels to shuffle")

    @abstractmethod
    def split_train(self, validation: float, batch_size: int) -> None:
        """Make the parts `train` and `validation`; the share 0 trains on everything."""

    @abstractmethod
    def steps_per_epoch(self, part: Part) -> int:
        """Batches in one pass over a part."""

    @abstractmethod
    def batch(self, part: Part, step: int) -> BatchT:
        """This process's share of the augmented batch of one step: a function of the step's number."""

    @abstractmethod
    def loss(self, model: Model, batch: BatchT) -> Tensor:
        """The mean loss of a batch, a scalar."""

    @abstractmethod
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """Figures over a part without augmentation, among them the score.

        With a `limit` over about as many examples, but at least one a class.
        The caller chooses the network's mode.
        """
