"""Candidate operations of recurrent cells: activations. `@register_activation(name)` enters another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datanas.core.registry import Registry


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivative.

    Attributes:
        value: f(x), of the shape of x.
        slope: f'(x), from x and f(x); None lets torch differentiate `value`, which is slower.
        name: as it is registered, under which a copy or a pickled network finds it again.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor] | None = None
    name: str | None = None

    def slope_at(self, x: Tensor, y: Tensor) -> Tensor:
        """f'(x), where y = f(x)."""
        if self.slope is not None:
            return self.slope(x, y)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(leaf).sum(), leaf)
        return slope

    def __reduce__(self) -> tuple[Callable[..., Activation], tuple[Any, ...]]:
        return (Activation, (self.value, self.slope)) if self.name is None else (_registered, (self.name,))


activations: Registry[Activation] = Registry("activation", "datanas.ops")


def register_activation(
    name: str, slope: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """A decorator that enters an elementwise function under `name`, with its derivative if that is known."""

    def enter(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        activations.register(name)(Activation(value, slope, name))
        return value

    return enter


def _registered(name: str) -> Activation:
    return activations[name]


def _tanh_slope(x: Tensor, y: Tensor) -> Tensor:
    return 1 - y * y


@register_activation("tanh", _tanh_slope)
def tanh(x: Tensor) -> Tensor:
    return x.tanh()


def _sigmoid_slope(x: Tensor, y: Tensor) -> Tensor:
    return y * (1 - y)


@register_activation("sigmoid", _sigmoid_slope)
def sigmoid(x: Tensor) -> Tensor:
    return x.sigmoid()


def _relu_slope(x: Tensor, y: Tensor) -> Tensor:
    return (y > 0).to(y.dtype)


@register_activation("relu", _relu_slope)
def relu(x: Tensor) -> Tensor:
    return x.relu()


def _identity_slope(x: Tensor, y: Tensor) -> Tensor:
    return torch.ones_like(y)


@register_activation("identity", _identity_slope)
def identity(x: Tensor) -> Tensor:
    return x
