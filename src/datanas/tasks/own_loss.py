"""A loss of one's own in the place of a task's: a function of scores and targets that a setting names."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.own_function import find_function

OWN_LOSS = (
    "a loss of one's own as module:attribute, called with scores and targets, whose mean over the batch it gives; "
    "null: the task's"
)


class OwnLoss:
    """A loss that a task calls with what its network gives and what is true.

    Args:
        name: `module:attribute`; a module of torch is copied to the device.
        scores, targets: made-up ones of the task's shapes, to try it on.
        device: of the scores that it will be called with.

    Raises:
        ConfigError: on these it fails, or gives no finite number that has a gradient in the scores.
    """

    def __init__(self, name: str, scores: Tensor, targets: Tensor, device: torch.device) -> None:
        function = find_function(name)
        self._function = deepcopy(function).to(device) if isinstance(function, nn.Module) else function
        self._name = name
        self._require_usable(scores.to(device), targets.to(device))

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean loss, a scalar.

        Raises:
            ConfigError: it is none, or the function fails.
        """
        try:
            loss: Any = self._function(scores, targets)
        except Exception as error:
            call = self._call(scores, targets)
            raise ConfigError(f"task.loss: {call} fails: {type(error).__name__}: {error}") from error
        if not isinstance(loss, Tensor):
            raise ConfigError(f"task.loss: {self._name} must give a scalar tensor, gave {type(loss).__name__}")
        if loss.ndim > 0:
            raise ConfigError(
                f"task.loss: {self._name} must give a scalar, the mean over the batch, gave {tuple(loss.shape)}"
            )
        return loss

    def _require_usable(self, scores: Tensor, targets: Tensor) -> None:
        on = self._call(scores, targets)
        with torch.inference_mode(False), torch.enable_grad(), seeding.keyed(0, "own loss"):
            tried = scores.clone().requires_grad_()
            try:
                loss = self(tried, targets.clone())
                gradient = torch.autograd.grad(loss, tried, allow_unused=True)[0] if loss.requires_grad else None
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(f"task.loss: {on} fails: {type(error).__name__}: {error}") from error
        if not loss.isfinite():
            raise ConfigError(f"task.loss: {on} gives {loss.item()}, which is not finite")
        if gradient is None:
            raise ConfigError(
                f"task.loss: {on} has no gradient in the scores; it must compute with them by torch's functions alone"
            )
        if not gradient.isfinite().all():
            raise ConfigError(f"task.loss: {on} has a gradient that is not finite")

    def _call(self, scores: Tensor, targets: Tensor) -> str:
        """What it was called with, to begin a message."""
        kind = str(targets.dtype).removeprefix("torch.")
        return f"{self._name}, called with scores {tuple(scores.shape)} and {kind} targets {tuple(targets.shape)},"
