"""Cross-entropy of a linear layer with many outputs, in pieces: its logits are never all held."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from datanas.kernels.products import add_product, product_type, write_product
from datanas.kernels.switch import first_order, own_kernels

PIECE = 2**22
"""Logits that are held at a time."""


def linear_cross_entropy(
    features: Float[Tensor, "n width"],
    weight: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"],
    targets: Int64[Tensor, " n"],
) -> Float[Tensor, ""]:
    """The mean of -log softmax(features weight^T + bias) at the targets, in nats.

    The gradients are made piece by piece along with the value, so that of n x classes logits only a few million are
    held at a time. Under autocast the products are made in its type and the rest in float32.
    """
    if not own_kernels():
        return F.cross_entropy(F.linear(features, weight, bias).to(weight.dtype), targets)
    return cast(Tensor, _LinearCrossEntropy.apply(features, weight, bias, targets))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        dtype = product_type(features)
        into_features, into_weight, into_bias = (
            torch.zeros_like(tensor) if needed else None
            for tensor, needed in zip((features, weight, bias), ctx.needs_input_grad[:3], strict=True)
        )
        total = weight.new_zeros(())
        size = min(max(1, PIECE // len(weight)), len(targets))
        held = [weight.new_empty(size, len(weight)) for _ in range(2)]  # filled anew by every piece
        with torch.autocast(features.device.type, enabled=False):
            inputs, table = features.to(dtype), weight.to(dtype)
            for start in range(0, len(targets), size):
                part = slice(start, start + size)
                piece, wanted = inputs[part], targets[part, None]
                logits, logs = (tensor[: len(piece)] for tensor in held)
                write_product(logits, piece, table.T, bias)
                torch.log_softmax(logits, dim=1, out=logs)
                total -= logs.gather(1, wanted).sum()
                if not any(ctx.needs_input_grad):
                    continue
                slope = logs.exp_().scatter_add_(1, wanted, logs.new_full(wanted.shape, -1.0))
                if into_bias is not None:
                    into_bias += slope.sum(dim=0)
                slope = slope.to(dtype)
                if into_features is not None:
                    into_features[part] = slope @ table
                if into_weight is not None:
                    add_product(into_weight, slope.T, piece, dtype)
        ctx.save_for_backward(into_features, into_weight, into_bias)
        ctx.count = len(targets)
        return total / len(targets)

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> Any:
        share = gradient / ctx.count
        return *(None if saved is None else saved * share for saved in ctx.saved_tensors), None
