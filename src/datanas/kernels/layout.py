"""Keeping channels-last through the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx._symbolic_trace import is_fx_symbolic_tracing

from datanas.kernels.switch import own_kernels


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels-last or contiguous; contiguous too where x is a stand-in that has no layout."""
    if not torch.compiler.is_compiling() and (is_fx_symbolic_tracing() or torch._C._functorch.is_batchedtensor(x)):
        return torch.contiguous_format
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


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
        saved = ctx.saved_tensors  # once: what recomputes them does so at each reading
        if saved:
            outputs = torch.split(saved[0], ctx.widths, dim=1)
            pieces = tuple(
                torch.ops.aten.threshold_backward(piece, output, 0)
                for piece, output in zip(pieces, outputs, strict=True)
            )
        return None, *(
            piece.contiguous(memory_format=layout) for piece, layout in zip(pieces, ctx.formats, strict=True)
        )
