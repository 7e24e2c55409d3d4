"""The average of its weights that a training keeps beside them: a moving one, or an equal one from some epoch on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datanas.engine.sections import TrainConfig


class WeightAverage:
    """The average, where `train.ema` or `train.average_after` asks for one.

    Attributes:
        model: None where there is none, or none yet.
    """

    def __init__(self, network: nn.Module, settings: TrainConfig) -> None:
        self._network, self._patience = network, settings.average_after
        self._history: list[float] = []
        self.model: AveragedModel | None = None
        if settings.ema is not None:
            decay = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
            self.model = AveragedModel(network, multi_avg_fn=decay, use_buffers=True)

    @property
    def network(self) -> nn.Module:
        """The network that counts: the average, where one is kept."""
        return self._network if self.model is None else self.model.module

    def update(self) -> None:
        """Take in the weights as they are after a step."""
        if self.model is not None:
            self.model.update_parameters(self._network)

    def heed(self, score: float) -> None:
        """Begin to average where a score is worse than the best of all but the last so many (Merity et al., 2018)."""
        if self._patience is None:
            return
        earlier = self._history[: -self._patience]
        if self.model is None and earlier and score < max(earlier):
            self.begin()
        self._history.append(score)

    def begin(self) -> None:
        """Average the weights from now on, each step's alike."""
        self.model = AveragedModel(self._network, multi_avg_fn=_average_equally, use_buffers=True)

    def state(self) -> dict[str, Any]:
        average = None if self.model is None else self.model.state_dict()
        return {"average": average, "history": list(self._history)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._history = list(state.get("history", []))  # runs of earlier versions have none
        if self.model is None and state["average"] is not None:
            self.begin()
        if self.model is not None:
            self.model.load_state_dict(state["average"])


@torch.no_grad()
def _average_equally(average: Any, latest: Any, count: Any) -> None:
    """Let the mean of `count` hold one more. What is counted in whole numbers has no mean: of that, the latest."""
    if average[0].is_floating_point():
        torch._foreach_lerp_(average, latest, 1 / (int(count) + 1))
    else:
        torch._foreach_copy_(average, latest)
