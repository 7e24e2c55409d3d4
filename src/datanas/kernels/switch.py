"""Where the kernels of this package run, and the switch that puts torch's own in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx._symbolic_trace import is_fx_symbolic_tracing

_OWN: ContextVar[bool] = ContextVar("datanas_own_kernels", default=True)
"""Each thread has its own, and a block's end restores what was before."""


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Run a block in which every operation is computed by torch's own modules: the reference for tests, and what
    derivatives of higher order go through. Other threads are not concerned.
    """
    token = _OWN.set(False)
    try:
        yield
    finally:
        _OWN.reset(token)


def own_kernels() -> bool:
    """Whether the autograd functions of this package run: neither under `plain_kernels` nor while torch looks on."""
    return not torch.compiler.is_compiling() and _OWN.get() and not _is_transformed()


def _is_transformed() -> bool:
    """Whether torch records or transforms what runs, which it can only with functions that it knows.

    So it does in `torch.jit.trace` and the older ONNX exporter, in `make_fx`, in `torch.fx`, under modes such as a
    counter of operations or fake tensors, in `torch.func` and in forward-mode differentiation.
    """
    return (
        torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or is_fx_symbolic_tracing()
    )


def runs_by_rows(x: Tensor) -> bool:
    """Whether the CPU kernels of this package take `x`: feature maps in channels-last layout, without autocast."""
    return (
        own_kernels()
        and type(x) in (Tensor, nn.Parameter)  # a subclass may mean something else by torch's functions
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
