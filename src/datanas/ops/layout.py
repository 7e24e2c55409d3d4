"""Keeping channels-last through the backward pass, and knowing where the CPU's own kernels may run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
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


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels-last or contiguous."""
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


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


def join_channels(
    parts: Sequence[Float[Tensor, "batch _ height width"]], *, rectify: bool = False
) -> Float[Tensor, "batch channels height width"]:
    """Feature maps side by side, as `torch.cat(parts, dim=1)`, or its ReLU.

    The gradient of each part is a dense tensor of the part's own layout. That of `torch.cat` is a strided view, which
    sends the batch norms behind it down a path that is several times slower on the CPU.
    """
    if not own_kernels():
        plain = torch.cat(list(parts), dim=1)
        return plain.relu() if rectify else plain
    joined: Tensor = _JoinChannels.apply(rectify, *parts)
    return joined


class _JoinChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rectify: bool, *parts: Tensor) -> Tensor:
        ctx.widths = [part.shape[1] for part in parts]
        ctx.formats = [layout_of(part) for part in parts]
        joined = torch.cat(parts, dim=1)
        if rectify:
            ctx.save_for_backward(joined.relu_())
        return joined

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pieces = torch.split(gradients[0], ctx.widths, dim=1)
        if ctx.saved_tensors:
            outputs = torch.split(ctx.saved_tensors[0], ctx.widths, dim=1)
            pieces = tuple(
                torch.ops.aten.threshold_backward(piece, output, 0)
                for piece, output in zip(pieces, outputs, strict=True)
            )
        return None, *(
            piece.contiguous(memory_format=layout) for piece, layout in zip(pieces, ctx.formats, strict=True)
        )
