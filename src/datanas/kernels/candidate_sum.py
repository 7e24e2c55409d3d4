"""The weighted sum of the candidates of a choice block, with the exact gradient of open and closed gates alike.

As `datanas.kernels.node_sum` does for cells, but for candidates of which nothing is known: the gradient of a gate is
the inner product of the sum's gradient with the candidate's output, whatever the gate's value. A closed candidate runs
in backward, without a graph, and its output is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datanas.kernels.bare import weights_held
from datanas.kernels.candidates import Candidate, ClosedCandidates, Leaves
from datanas.kernels.node_sum import Output, inner, inner_product, times
from datanas.kernels.switch import first_order

Ran = Sequence[tuple[Candidate, Leaves]]


def require_alike(ran: Ran) -> None:
    """Refuse candidates whose outputs cannot be added up.

    Raises:
        ValueError: outputs of different shapes, both named, or what is no floating-point tensor.
    """
    first, expected = ran[0]
    for candidate, leaves in ran:
        if any(not tensor.is_floating_point() for tensor in leaves.tensors) or not leaves.tensors:
            kinds = ", ".join(str(tensor.dtype) for tensor in leaves.tensors) or "no tensor"
            raise ValueError(
                f"candidate {candidate.name!r} must give floating-point tensors, which add up; got {kinds}"
            )
        is_alike = leaves.spec == expected.spec and [t.shape for t in leaves.tensors] == [
            t.shape for t in expected.tensors
        ]
        if not is_alike:
            raise ValueError(
                f"candidates of a block must give outputs of one shape: {first.name!r} gives {expected.shape()}, "
                f"{candidate.name!r} {leaves.shape()}"
            )


def weighted_sum(tensors: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """sum_k factor_k * tensor_k, never one of the tensors itself."""
    first, *rest = tensors
    if not rest:
        return first * factors[0]
    total = first if factors[0] == 1.0 else first * factors[0]
    for tensor, factor in zip(rest, factors[1:], strict=True):
        total = torch.add(total, tensor, alpha=factor)
    return total


def fixed_sum(outputs: Sequence[Leaves], factors: Sequence[float]) -> Any:
    """sum_k factor_k * output_k."""
    first = outputs[0]
    if len(outputs) == 1 and factors[0] == 1.0:
        return first.around(first.tensors)
    return first.around([weighted_sum(tensors, factors) for tensors in _by_tensor(outputs)])


def dense_sum(ran: Ran, values: Tensor) -> Any:
    """sum_k values_k * output_k by torch's own functions, with derivatives of any order.

    Args:
        values: a factor for each of `ran`.
    """
    (_, first), *_ = ran
    totals = []
    for tensors in _by_tensor([leaves for _, leaves in ran]):
        parts = [tensor * values[index].to(tensor.dtype) for index, tensor in enumerate(tensors)]
        totals.append(sum(parts[1:], parts[0]))
    return first.around(totals)


def learning_sum(
    ran: Ran, factors: Sequence[float], values: Tensor, closed: ClosedCandidates, grad_mask: Sequence[float] | None
) -> Any:
    """sum_k factor_k * output_k, whose gradient reaches all gates.

    Args:
        ran: the open candidates.
        factors: theirs.
        values: the gates of all candidates, shape (K,); those of `ran` and `closed` get their gradient.
        grad_mask: factors of the gates' gradients.
    """
    (_, first), *_ = ran
    tensors = [tensor for _, leaves in ran for tensor in leaves.tensors]
    totals = _CandidateSum.apply([each for each, _ in ran], tuple(factors), first, closed, grad_mask, values, *tensors)
    return first.around(totals)


class _CandidateSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        opened: Sequence[Candidate],
        factors: tuple[float, ...],
        example: Leaves,
        closed: ClosedCandidates,
        grad_mask: Sequence[float] | None,
        values: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        width = len(tensors) // len(opened)
        # Saved by autograd, which drops them after use and tells where one was changed in between.
        ctx.save_for_backward(*tensors, *closed.inputs)
        ctx.opened, ctx.factors, ctx.closed, ctx.grad_mask = opened, factors, replace(closed, inputs=()), grad_mask
        ctx.width, ctx.gates = width, (values.shape, values.dtype, values.device)
        # Of the example its tensors would outlive their use.
        ctx.example = Leaves((), example.others, example.spec)
        ctx.shapes = [tensor.shape for tensor in tensors[:width]]
        return tuple(weighted_sum(tensors[index::width], factors) for index in range(width))

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        saved, width, count = ctx.saved_tensors, ctx.width, len(ctx.opened)
        tensors, inputs = saved[: width * count], saved[width * count :]
        wanted = ctx.needs_input_grad[6:]
        by_candidate: dict[int, Tensor] = {}
        into: list[Tensor | None] = []
        for number, (candidate, factor) in enumerate(zip(ctx.opened, ctx.factors, strict=True)):
            own = tensors[number * width : (number + 1) * width]
            by_candidate[candidate.index] = _product(gradients, own)
            for at, (gradient, tensor) in enumerate(zip(gradients, own, strict=True)):
                if gradient is None or not wanted[number * width + at]:
                    into.append(None)
                    continue
                into.append(times(gradient.to(tensor.dtype), factor))
        del tensors, saved
        if any(gradient is not None for gradient in gradients):
            with weights_held(ctx.closed.weights):
                by_candidate |= _closed_products(ctx, replace(ctx.closed, inputs=inputs), gradients)
        shape, dtype, device = ctx.gates
        table = torch.zeros(shape, dtype=dtype, device=device)
        products = torch.stack(list(by_candidate.values())).to(dtype)
        if ctx.grad_mask is not None:
            products = products * products.new_tensor([ctx.grad_mask[index] for index in by_candidate])
        table[list(by_candidate)] = products.to(device)
        return (None, None, None, None, None, table, *into)


def _closed_products(ctx: Any, closed: ClosedCandidates, gradients: Sequence[Tensor | None]) -> dict[int, Tensor]:
    """By index, the gradients of the gates of closed candidates."""
    products: dict[int, Tensor] = {}
    for candidate, output in closed.outputs():
        if isinstance(output, Output) and [output.z.shape] == ctx.shapes and gradients[0] is not None:
            products[candidate.index] = inner_product(gradients[0], output)
            continue
        leaves = Leaves.of(output.z) if isinstance(output, Output) else output
        if leaves.spec != ctx.example.spec or [each.shape for each in leaves.tensors] != ctx.shapes:
            raise ValueError(
                f"candidates of a block must give outputs of one shape: {ctx.opened[0].name!r} gives "
                f"{[tuple(shape) for shape in ctx.shapes]}, {candidate.name!r} {leaves.shape()}"
            )
        products[candidate.index] = _product(gradients, leaves.tensors)
    return products


def _by_tensor(outputs: Sequence[Leaves]) -> list[tuple[Tensor, ...]]:
    """For each tensor of an output that of every candidate."""
    return list(zip(*(leaves.tensors for leaves in outputs), strict=True))


def _product(gradients: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> Tensor:
    """sum over tensors of <gradient, tensor>, in at least float32."""
    parts = [
        inner(gradient, tensor) for gradient, tensor in zip(gradients, tensors, strict=True) if gradient is not None
    ]
    return sum(parts[1:], parts[0]) if parts else tensors[0].new_zeros((), dtype=torch.float32)
