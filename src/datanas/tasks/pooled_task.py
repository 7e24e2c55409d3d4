"""What tasks share whose networks answer from the pooled features of an image: head, auxiliary loss, order."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from datanas.core import seeding
from datanas.core.own_function import OwnFunction
from datanas.core.settings import ComponentConfig
from datanas.data.base import Labels
from datanas.data.batches import stratified
from datanas.tasks.base import BatchT, Part
from datanas.tasks.classifier_head import ClassifierHead
from datanas.tasks.image_task import ImageTask, Indices
from datanas.tasks.own_metric import LOWER_IS_BETTER, OWN_METRIC, OwnMetric, measured_by_own


class PooledTask(ImageTask[BatchT]):
    """A task on images with an output for each of `data.classes`, whatever these are."""

    class Config(ImageTask.Config):
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary tower's loss, where it is used")
        auxiliary_norms: Literal[1, 2] | None = Field(
            None, description="batch norms of that tower; null: 2, but 1 behind the stem imagenet, as DARTS and DATA"
        )
        metric: OwnFunction = Field(None, description=OWN_METRIC)
        lower_is_better: bool = Field(False, description=LOWER_IS_BETTER)

        @model_validator(mode="after")
        def lower_of_own_metric(self) -> Self:
            if self.lower_is_better and self.metric is None:
                raise ValueError("lower_is_better: belongs to metric, which names no function")
            return self

    head_type: ClassVar[type[ClassifierHead]] = ClassifierHead
    measures_by: ClassVar[str | None] = None
    """The function of somebody's own that gives its score (`task.metric`)."""
    config: Config

    def __new__(cls, config: ComponentConfig, *_: Any, **__: Any) -> Self:
        """Of the class that measures so: what people ask of a task's class holds for the task itself."""
        return super().__new__(cls.measured_by(config))

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        super().__init__(config, data, device, seed)
        name = self.config.metric
        self._own_metric = None if name is None else OwnMetric(name, self.metric.name)

    @classmethod
    def measured_by(cls, config: ComponentConfig) -> type[Self]:
        assert isinstance(config, PooledTask.Config)
        if config.metric is None or cls.measures_by == config.metric:
            return cls
        return measured_by_own(cls, config.metric, config.lower_is_better)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        norms = config.auxiliary_norms or (1 if config.stem == "imagenet" else 2)
        return cls.head_type(widths, num_classes, norms)

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.data.classes

    def describe(self) -> dict[str, Any]:
        return {
            self.target_kind or "classes": list(self.data.classes),
            "train": len(self.data.train),
            "test": len(self.data.test),
            "shape": list(self.example_shape),
        }

    def _with_auxiliary(self, output: Tensor | tuple[Tensor, Tensor], loss: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss of a network's outputs, and of its auxiliary tower's where there are such."""
        if not isinstance(output, tuple):
            return loss(output.float())
        main, auxiliary = output
        extra = self.config.auxiliary_weight * loss(auxiliary.float())
        return loss(main.float()) + extra

    def _shuffled_rows(self, labels: Tensor) -> Tensor:
        """Each other's labels, keyed by the seed."""
        order = torch.randperm(len(labels), generator=seeding.generator(self._seed, "shuffled labels"))
        return labels[order.to(labels.device)]

    def _strata_of(self, part: Part, indices: Indices) -> Labels:
        """The labels by which a share of these examples is balanced."""
        return self._images(part).labels.cpu()[indices]

    def _to_measure(self, part: Part, limit: int | None) -> Indices:
        """The examples of a part, or a balanced share of them, in the order of measuring."""
        indices = self._chosen[part]
        if limit is not None and limit < len(indices):
            share = Fraction(limit, len(indices))
            indices = indices[stratified(self._strata_of(part, indices), share, self._seed, "evaluate")[0]]
        return self._shuffled(indices)
