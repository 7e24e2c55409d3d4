"""The optimisers of weights and alpha, and learning rates as functions of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from datanas.engine.sections import AdamConfig, SGDConfig


def cosine(progress: float, start: float, end: float) -> float:
    """From `start` at progress 0 to `end` at 1, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def polynomial(progress: float, start: float, end: float, power: float) -> float:
    """From `start` at progress 0 to `end` at 1, as (1 - progress) to the `power` (Liu et al., ParseNet, 2015)."""
    return end + (start - end) * math.pow(1 - min(max(progress, 0.0), 1.0), power)


def learning_rate(settings: SGDConfig, epoch: float, epochs: int) -> float:
    """The rate at a point of training.

    Args:
        epoch: epochs done so far; fractions count.
        epochs: of the whole training.
    """
    if epoch < settings.warm_up_epochs:
        return settings.lr * epoch / settings.warm_up_epochs
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "step":
        return settings.lr * math.pow(settings.decay, epoch // settings.decay_every)
    progress = (epoch - settings.warm_up_epochs) / max(epochs - settings.warm_up_epochs, 1e-12)
    if settings.schedule == "poly":
        return polynomial(progress, settings.lr, settings.lr_min, settings.power)
    return cosine(progress, settings.lr, settings.lr_min)


def build_sgd(parameters: Iterable[Tensor], settings: SGDConfig) -> Optimizer:
    """SGD as the settings describe it."""
    return torch.optim.SGD(
        parameters,
        settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )


def build_adam(parameters: Sequence[Tensor], settings: AdamConfig, weight_decay: float) -> Optimizer:
    """Adam as the settings describe it, also of a method without parameters.

    Args:
        weight_decay: where the settings leave it to the method.
    """
    return torch.optim.Adam(
        parameters or [torch.zeros(0)],
        settings.lr,
        betas=settings.betas,
        weight_decay=weight_decay if settings.weight_decay is None else settings.weight_decay,
    )


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Let every parameter move at this rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
