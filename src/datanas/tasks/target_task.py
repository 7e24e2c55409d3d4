"""What tasks on images with a row of targets share: labels of which several hold, or numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor, nn

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.settings import ComponentConfig
from datanas.data.augment import normalise
from datanas.data.base import Labels
from datanas.data.batches import stratified
from datanas.data.types.targets import Kind, TargetData, strata_of
from datanas.tasks.base import Model, Part
from datanas.tasks.classification import ClassifierHead
from datanas.tasks.image_task import ImageTask

Outputs = Float[Tensor, "n k"]


@dataclass(frozen=True)
class TargetBatch:
    """Augmented images and their targets."""

    images: Float32[Tensor, "batch channels height width"]
    targets: Float32[Tensor, "batch k"]


class TargetTask(ImageTask[TargetBatch]):
    """A task on images with k targets each. One that is built on it says its `kind`, the loss and the figures."""

    class Config(ImageTask.Config):
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary tower's loss, where it is used")
        auxiliary_norms: Literal[1, 2] | None = Field(
            None, description="batch norms of that tower; null: 2, but 1 behind the stem imagenet, as DARTS and DATA"
        )

    kind: ClassVar[Kind]
    takes: ClassVar[tuple[type, ...]] = (TargetData,)
    needs_labels: ClassVar[bool] = False
    compared_as: ClassVar[str] = "classification"
    config: Config
    data: TargetData  # type: ignore[assignment]  # of this kind alone

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if isinstance(data, TargetData) and data.kind != self.kind:
            raise ConfigError(
                f"data.name: task {config.name} takes images with {self.kind}, and these have {data.kind}"
            )
        super().__init__(config, data, device, seed)
        self._targets = {"train": self.data.train_targets.to(device), "test": self.data.test_targets.to(device)}

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        norms = config.auxiliary_norms or (1 if config.stem == "imagenet" else 2)
        return ClassifierHead(widths, num_classes, norms)

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.data.classes

    def describe(self) -> dict[str, Any]:
        return {
            self.kind: list(self.data.classes),
            "train": len(self.data.train),
            "test": len(self.data.test),
            "shape": list(self.example_shape),
        }

    def contents(self) -> Iterator[bytes]:
        yield from super().contents()
        for targets in (self.data.train_targets, self.data.test_targets):
            yield targets.cpu().numpy().tobytes()

    def shuffle_labels(self) -> None:
        targets = self.data.train_targets
        order = torch.randperm(len(targets), generator=seeding.generator(self._seed, "shuffled labels"))
        self.data = self.data.with_train_targets(targets[order.to(targets.device)])
        self._targets["train"] = self.data.train_targets.to(self.device)

    def _strata(self) -> Labels:
        return strata_of(self.data.train_targets.cpu(), self.kind)

    def batch(self, part: Part, step: int) -> TargetBatch:
        _, views, places = self._drawn(part, step)
        return TargetBatch(views, self._targets["train"][places])

    def loss(self, model: Model, batch: TargetBatch) -> Tensor:
        output = model(batch.images)
        if isinstance(output, tuple):
            found, auxiliary = output
            extra = self.config.auxiliary_weight * self.distance(auxiliary.float(), batch.targets)
            return self.distance(found.float(), batch.targets) + extra
        return self.distance(output.float(), batch.targets)

    @abstractmethod
    def distance(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """The mean loss of outputs, a scalar."""

    @abstractmethod
    def figures(self, outputs: Outputs, targets: Outputs) -> dict[str, float]:
        """What is measured of the outputs of a whole part but for the loss, on the CPU."""

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`figures` and `loss`."""
        indices, known = self._chosen[part], self._targets["test" if part == "test" else "train"]
        if limit is not None and limit < len(indices):
            strata = strata_of(known[indices.to(known.device)].cpu(), self.kind)
            indices = indices[stratified(strata, Fraction(limit, len(indices)), self._seed, "evaluate")[0]]
        indices = self._shuffled(indices)
        outputs = torch.zeros(len(indices), self.num_classes, device=self.device)
        for place, images, _ in self._measured(part, indices):
            found: Tensor = model(normalise(images, self.data.mean, self.data.std))
            outputs[place : place + len(found)] = found.float()
        outputs = self.processes.total(outputs)
        targets = known[indices.to(known.device)]
        return {**self.figures(outputs.cpu(), targets.cpu()), "loss": float(self.distance(outputs, targets))}
