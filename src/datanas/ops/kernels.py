"""Where the kernels of this package run, and the switch that puts torch's own in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor


class _Kernels:
    own = True


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Run a block in which every operation is computed by torch's own modules: the reference for tests, and what
    derivatives of higher order go through."""
    before, _Kernels.own = _Kernels.own, False
    try:
        yield
    finally:
        _Kernels.own = before


def own_kernels() -> bool:
    """Whether the autograd functions of this package run: neither under `plain_kernels` nor while compiling."""
    return _Kernels.own and not torch.compiler.is_compiling()


def runs_by_rows(x: Tensor) -> bool:
    """Whether the CPU kernels of this package take `x`: feature maps in channels-last layout, without autocast."""
    return (
        own_kernels()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.ndim == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark the backward of an autograd function that has no derivative itself.

    It raises RuntimeError where a graph of the gradient is asked for, which would otherwise lack its part in silence.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("this gradient has no derivative; for those of higher order use plain_kernels()")
        return backward(ctx, *gradients)

    return checked
