"""Candidate operations of recurrent cells: activations. `@register_activation(name)` enters another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datanas.registry import Registry


@dataclass(frozen=True)
class Activation:
    """An elementwise function and its derivative.

    Attributes:
        value: f(x), of the shape of x.
        slope: f'(x), from x and f(x); None lets torch differentiate `value`, which is slower.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor] | None = None

    def slope_at(self, x: Tensor, y: Tensor) -> Tensor:
        """f'(x), where y = f(x)."""
        if self.slope is not None:
            return self.slope(x, y)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(leaf).sum(), leaf)
        return slope


activations: Registry[Activation] = Registry("activation", "datanas.ops")


def register_activation(
    name: str, slope: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """A decorator that enters an elementwise function under `name`, with its derivative if that is known."""

    def enter(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        activations.register(name)(Activation(value, slope))
        return value

    return enter


@register_activation("tanh", lambda x, y: 1 - y * y)
def tanh(x: Tensor) -> Tensor:
    return x.tanh()


@register_activation("sigmoid", lambda x, y: y * (1 - y))
def sigmoid(x: Tensor) -> Tensor:
    return x.sigmoid()


@register_activation("relu", lambda x, y: (y > 0).to(y.dtype))
def relu(x: Tensor) -> Tensor:
    return x.relu()


@register_activation("identity", lambda x, y: torch.ones_like(y))
def identity(x: Tensor) -> Tensor:
    return x
