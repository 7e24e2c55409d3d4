"""A score of one's own in the place of a task's: a function of what a network says of all examples, and the truth."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.own_function import find_function
from datanas.tasks.kind import TaskKind
from datanas.tasks.metric import Metric

OWN_METRIC = (
    "a score of one's own as module:attribute, called with scores and targets of a whole part, by which networks are "
    "then compared; null: the task's"
)
LOWER_IS_BETTER = "of metric: whether the lower number is the better one"

KindT = TypeVar("KindT", bound=TaskKind)


class OwnMetric:
    """A score that a task takes of all outputs of a part, on the CPU.

    Args:
        name: `module:attribute`.
        label: its name among the figures.

    Raises:
        ConfigError: there is no such function.
    """

    def __init__(self, name: str, label: str) -> None:
        self._function, self._name, self.label = find_function(name), name, label

    def __call__(self, scores: Tensor, targets: Tensor) -> float:
        """The score of outputs, each of an example of a part.

        Raises:
            ConfigError: the function fails, or gives no finite number.
        """
        call = (
            f"task.metric: {self._name}, called with scores {tuple(scores.shape)} and targets {tuple(targets.shape)},"
        )
        with torch.inference_mode(False), seeding.keyed(0, "own metric"):
            try:
                value = float(self._function(scores.clone(), targets.clone()))
            except Exception as error:
                raise ConfigError(f"{call} fails: {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise ConfigError(
                f"{call} gives {value}; it must give a finite number, also of a network that says nonsense"
            )
        return value

    def among(self, figures: dict[str, float], scores: Tensor, targets: Tensor) -> dict[str, float]:
        """Figures with this score before them.

        Raises:
            ConfigError: one of them has its name.
        """
        if self.label in figures:
            raise ConfigError(
                f"task.metric: {self._name} would be called {self.label}, as a figure of the task is; name it otherwise"
            )
        return {self.label: self(scores, targets), **figures}


@cache
def measured_by_own(kind: type[KindT], name: str, lower_is_better: bool) -> type[KindT]:
    """A task as it is where networks are compared by a score of one's own.

    It keeps no answers: how uncertain such a score is nobody knows.
    """
    metric = Metric(name.rpartition(":")[2].rpartition(".")[2], False, not lower_is_better, digits=4)

    def figure(cls: type[TaskKind], label: str) -> Metric:
        return metric if label == metric.name else kind.figure(label)

    own: dict[str, Any] = {"metric": metric, "keeps_answers": False, "measures_by": name, "figure": classmethod(figure)}
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **own})
