"""The child that is drawn, so that gradients reach alpha in as many backward passes as somebody makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from datanas.samplers.interface import Draw


def reusable(draw: Draw, alphas: Sequence[nn.Parameter]) -> Draw:
    """The same draw, of whose tensors every graph is a graph of its own up to alpha.

    All that is computed of a child shares the graph that drew it, of which torch lets go in the first backward pass.

    Args:
        alphas: what the draw is a function of.
    """
    tables = [draw.gates, draw.probs, draw.codes]
    learning = [tensor for table in tables for tensor in table.values() if tensor.requires_grad]
    if not learning:
        return draw
    outputs = _Drawn.apply(learning, *alphas)
    own = dict(zip(map(id, learning), outputs, strict=True))
    gates, probs, codes = ({name: own.get(id(tensor), tensor) for name, tensor in table.items()} for table in tables)
    return replace(draw, gates=gates, probs=probs, codes=codes)


class _Drawn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensors: Sequence[Tensor], *alphas: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.tensors, ctx.alphas = tensors, alphas
        return tuple(tensor.detach().clone() for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pairs = [each for each in zip(ctx.tensors, gradients, strict=True) if each[1] is not None]
        if not pairs:
            return (None, *(None for _ in ctx.alphas))
        tensors, given = zip(*pairs, strict=True)
        alpha_gradients = torch.autograd.grad(
            tensors, ctx.alphas, given, retain_graph=True, create_graph=torch.is_grad_enabled(), allow_unused=True
        )
        return (None, *alpha_gradients)
