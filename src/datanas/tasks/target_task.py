"""What tasks on images with a row of targets share: labels of which several hold, or numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.own_function import OwnFunction
from datanas.core.settings import ComponentConfig
from datanas.data.augment import normalise
from datanas.data.base import Labels
from datanas.data.types.targets import Kind, TargetData, strata_of
from datanas.tasks.base import FullEvaluation, Model, Part
from datanas.tasks.image_task import Indices
from datanas.tasks.own_loss import OWN_LOSS, OwnLoss
from datanas.tasks.pooled_task import PooledTask

Outputs = Float[Tensor, "n k"]


@dataclass(frozen=True)
class TargetBatch:
    """Augmented images and their targets."""

    images: Float32[Tensor, "batch channels height width"]
    targets: Float32[Tensor, "batch k"]


class TargetTask(PooledTask[TargetBatch]):
    """A task on images with k targets each. One that is built on it says their kind, the loss and the figures."""

    class Config(PooledTask.Config):
        loss: OwnFunction = Field(None, description=OWN_LOSS)

    target_kind: ClassVar[Kind]
    takes: ClassVar[tuple[type, ...]] = (TargetData,)
    needs_labels: ClassVar[bool] = False
    compared_as: ClassVar[str] = "classification"
    shared_answers: ClassVar[Sequence[str]] = ("targets",)
    config: Config
    data: TargetData  # type: ignore[assignment]  # of this kind alone

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if isinstance(data, TargetData) and data.kind != self.target_kind:
            raise ConfigError(
                f"data.name: task {config.name} takes images with {self.target_kind}, and these have {data.kind}"
            )
        super().__init__(config, data, device, seed)
        self._targets = {"train": self.data.train_targets.to(device), "test": self.data.test_targets.to(device)}
        self._own_loss: OwnLoss | None = None
        if self.config.loss is not None:
            self.draws_like_unknown = True
            scores, drawn = torch.randn(2, 4, self.num_classes, generator=seeding.generator(0, "own loss"))
            targets = (drawn > 0).float() if self.target_kind == "labels" else drawn
            self._own_loss = OwnLoss(self.config.loss, scores, targets, device)

    def contents(self) -> Iterator[bytes]:
        yield from super().contents()
        for targets in (self.data.train_targets, self.data.test_targets):
            yield targets.cpu().numpy().tobytes()

    def shuffle_labels(self) -> None:
        self.data = self.data.with_train_targets(self._shuffled_rows(self.data.train_targets))
        self._targets["train"] = self.data.train_targets.to(self.device)

    def _strata(self) -> Labels:
        return strata_of(self.data.train_targets.cpu(), self.target_kind)

    def _strata_of(self, part: Part, indices: Indices) -> Labels:
        return strata_of(self._targets_of(part, indices).cpu(), self.target_kind)

    def _targets_of(self, part: Part, indices: Indices) -> Outputs:
        known = self._targets["test" if part == "test" else "train"]
        return known[indices.to(known.device)]

    def batch(self, part: Part, step: int) -> TargetBatch:
        _, views, indices = self._drawn(part, step)
        return TargetBatch(views, self._targets["train"][indices])

    def loss(self, model: Model, batch: TargetBatch) -> Tensor:
        return self._with_auxiliary(model(batch.images), lambda outputs: self._learned(outputs, batch.targets))

    def _learned(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """The loss that a network learns by: one's own, where there is one, of what `distance` compares."""
        if self._own_loss is None:
            return self.distance(outputs, targets)
        return self._own_loss(self.compared(outputs), self.compared(targets))

    def compared(self, values: Outputs) -> Outputs:
        """What a loss compares of outputs or of targets: these themselves, by default."""
        return values

    @abstractmethod
    def distance(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """The mean loss of outputs, a scalar."""

    @abstractmethod
    def figures(self, outputs: Outputs, targets: Outputs) -> dict[str, float]:
        """What is measured of the outputs of a whole part but for the loss, on the CPU."""

    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`figures` and `loss`."""
        _, outputs, targets = self._answered(model, part, limit)
        return self._measures(outputs, targets)

    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """With the answers `outputs` and `targets`, (n, k) each."""
        indices, outputs, targets = self._answered(model, part, None)
        order = indices.argsort()
        answers = {"outputs": outputs.cpu()[order], "targets": targets.cpu()[order]} if self.keeps_answers else {}
        return FullEvaluation(self._measures(outputs, targets), lambda: self.exhibits(model, part), answers)

    def _measures(self, outputs: Outputs, targets: Outputs) -> dict[str, float]:
        outputs_here, targets_here = outputs.cpu(), targets.cpu()
        figures = {**self.figures(outputs_here, targets_here), "loss": float(self.distance(outputs, targets))}
        return figures if self._own_metric is None else self._own_metric.among(figures, outputs_here, targets_here)

    @torch.inference_mode()
    def _answered(self, model: Model, part: Part, limit: int | None) -> tuple[Indices, Outputs, Outputs]:
        """The examples that are measured, in the order of measuring, what the network says of each, and the truth."""
        indices = self._to_measure(part, limit)
        outputs = torch.zeros(len(indices), self.num_classes, device=self.device)
        for first, images, _ in self._measured(part, indices):
            predicted: Tensor = model(normalise(images, self.data.mean, self.data.std))
            outputs[first : first + len(predicted)] = predicted.float()
        outputs = self.processes.total(outputs)
        return indices, outputs, self._targets_of(part, indices)
