"""The weighted sum of a node's operations, with the exact gradient of open and closed gates alike.

The gradient of a gate is the inner product of the sum's gradient with that operation's output, whatever the gate's
value. A closed operation does not run forward: its output is computed in backward, without a graph, and dropped. Where
an operation ends in batch norm, neither the sum nor the inner product needs the normalised output
(`datanas.kernels.norm`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datanas.kernels import norm_rows as bn
from datanas.kernels.bare import Weight, is_bare, weights_held
from datanas.kernels.cell_operation import CellOperation, GateIndex
from datanas.kernels.gates import Table
from datanas.kernels.norm import EndsInNorm, before_norm, statistics_kept
from datanas.kernels.norm_rows import Statistics
from datanas.kernels.switch import first_order, runs_by_rows


@dataclass(frozen=True)
class Output:
    """What an operation gives: `z`, or the batch norm of `z` with these statistics where `norm` is given."""

    z: Tensor
    norm: nn.BatchNorm2d | None = None
    statistics: Statistics | None = None

    @classmethod
    def of(cls, module: nn.Module, x: Tensor, rectified: Tensor | None = None) -> Output:
        """Run an operation, but leave its last batch norm to the sum; `rectified` as for `EndsInNorm.features`."""
        z, norm = before_norm(module, x, rectified)
        return cls(z, norm, None if norm is None else bn.statistics(z.detach(), norm))


@dataclass
class Shared:
    """What the nodes of a cell need not compute twice for their closed gates.

    Attributes:
        outputs: by source and operation, those of operations that learn nothing: they are the same on every edge.
        waiting: nodes whose backward is still to come; with the last one the outputs are dropped.
    """

    outputs: dict[tuple[int, int], Output] = field(default_factory=dict)
    waiting: int = 0


@dataclass(frozen=True)
class Opened:
    """An operation that runs: its gate's index, its factor in the sum, and its output."""

    index: GateIndex
    factor: float
    output: Output


@dataclass(frozen=True)
class ClosedGates:
    """The closed gates of a node.

    Attributes:
        items: the operations whose gates want a gradient; they do not run.
        alike: gate indices of operations whose output is the same on every edge from their source.
        states: what their operations read, without a graph.
        shared: what the nodes of the cell share.
        weights: of their operations, in the forward pass.
        foreign: batch norms in the node's operations whose running statistics are to be kept by hand.
        autocast: as it was in the forward pass.
    """

    items: Sequence[CellOperation[nn.Module]]
    alike: frozenset[GateIndex]
    states: Sequence[Tensor]
    shared: Shared
    weights: Sequence[Weight]
    foreign: Sequence[_BatchNorm]
    autocast: torch.autocast

    def inner_products(self, gradient: Tensor) -> dict[GateIndex, Tensor]:
        """<gradient, output> of each; nothing is kept but what nodes share."""
        products: dict[GateIndex, Tensor] = {}
        rectified: dict[int, Tensor] = {}
        outputs = self.shared.outputs
        with torch.no_grad(), statistics_kept(self.foreign), weights_held(self.weights), self.autocast:
            for item in self.items:
                key, x, module = (item.source, item.op), self.states[item.source], item.operation
                # Running statistics are each operation's own, whatever it has learned, and so are hooks.
                shared = item.index in self.alike and module.training and is_bare(module)
                output = outputs.get(key) if shared else None
                if output is None:
                    if item.source not in rectified and isinstance(module, EndsInNorm):
                        rectified[item.source] = x.relu()
                    output = Output.of(module, x, rectified.get(item.source))
                    if shared:
                        outputs[key] = output
                products[item.index] = inner_product(gradient, output)
        self.shared.waiting -= 1
        if self.shared.waiting <= 0:
            outputs.clear()
        return products


def node_sum(
    opened: Sequence[Opened],
    blank: Tensor | None,
    values: Tensor | None = None,
    closed: ClosedGates | None = None,
    grad_mask: Table | None = None,
) -> Tensor:
    """sum_k factor_k * output_k.

    Args:
        opened: the operations that ran.
        blank: the sum's value where there are none.
        values: the gates, shape (edges, ops); those of `opened` and `closed` get their gradient.
        closed: the closed gates.
        grad_mask: factors of the gates' gradients.
    """
    outputs = [part.output for part in opened]
    norms = [output.norm for output in outputs]
    total: Tensor = _NodeSum.apply(
        opened,
        blank,
        closed,
        grad_mask,
        values,
        *(output.z for output in outputs),
        *(None if norm is None else norm.weight for norm in norms),
        *(None if norm is None else norm.bias for norm in norms),
    )
    return total


class _NodeSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        opened: Sequence[Opened],
        blank: Tensor | None,
        closed: ClosedGates | None,
        grad_mask: Table | None,
        values: Tensor | None,
        *tensors: Tensor | None,
    ) -> Tensor:
        # Saved by autograd, which drops them after use: the graph itself lives until the whole backward pass is done.
        ctx.save_for_backward(*tensors, *(() if closed is None else closed.states))
        if closed is not None:
            closed.shared.waiting += 1
            closed = replace(closed, states=())
        ctx.parts = [(part.index, part.factor, part.output.norm, part.output.statistics) for part in opened]
        ctx.closed, ctx.grad_mask = closed, grad_mask
        ctx.gates = None if values is None else (values.shape, values.dtype)
        return _weighted_sum(opened) if blank is None else blank.clone()

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        gradient = gradients[0]
        count = len(ctx.parts)
        saved = ctx.saved_tensors  # once: what recomputes them does so at each reading
        tensors, states = saved[: 3 * count], saved[3 * count :]
        into_z: list[Tensor | None] = []
        into_weights: list[Tensor | None] = []
        into_biases: list[Tensor | None] = []
        products: dict[GateIndex, Tensor] = {}
        wanted = ctx.needs_input_grad
        first = len(wanted) - 3 * count
        wants_gates = wanted[first - 1]
        for index, (gate, factor, norm, moments) in enumerate(ctx.parts):
            z, weight, bias = tensors[index::count]
            wants_z = wanted[first + index]
            if norm is None:
                if wants_gates:
                    products[gate] = inner(gradient, z)
                into_z.append(times(gradient.to(z.dtype), factor) if wants_z else None)
                into_weights.append(None)
                into_biases.append(None)
                continue
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            dot, total = bn.products(gradient, z, moments)
            if wants_gates:
                products[gate] = _recombined(weight, bias, dot, total)
            scale = bn.scale(moments, weight, factor)
            into_z.append(bn.into_input(gradient, z, moments, scale, dot, total) if wants_z else None)
            into_weights.append(times(dot, factor) if weight is not None else None)
            into_biases.append(times(total, factor) if weight is not None else None)
        into_values = None
        if wants_gates:
            if ctx.closed is not None:
                products |= replace(ctx.closed, states=states).inner_products(gradient)
            into_values = _table_of(products, ctx.grad_mask, gradient.new_zeros(ctx.gates[0], dtype=ctx.gates[1]))
        return (None, None, None, None, into_values, *into_z, *into_weights, *into_biases)


def _weighted_sum(opened: Sequence[Opened]) -> Tensor:
    normed = [(part, part.output.norm, part.output.statistics) for part in opened if part.output.norm is not None]
    plain = [part for part in opened if part.output.norm is None]
    if not normed:
        first, *rest = plain
        total = first.output.z * first.factor
        for part in rest:
            total = torch.add(total, part.output.z, alpha=part.factor)
        return total
    scales: list[Tensor] = []
    shifts: list[Tensor] = []
    for part, norm, moments in normed:
        assert norm is not None
        assert moments is not None
        scales.append(bn.scale(moments, norm.weight, part.factor))
        shifts.append(bn.shift(moments, scales[-1], norm.bias, part.factor))
    total = bn.apply_rows(normed[0][0].output.z, scales[0], sum(shifts[1:], shifts[0]))
    for (part, _, _), scale in zip(normed[1:], scales[1:], strict=True):
        bn.add_rows(total, part.output.z, scale)
    for part in plain:
        total.add_(part.output.z, alpha=part.factor)
    return total


def inner_product(gradient: Tensor, output: Output) -> Tensor:
    """<gradient, output> in at least float32."""
    if output.norm is None or output.statistics is None:
        return inner(gradient, output.z)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    weight, bias = output.norm.weight, output.norm.bias
    return _recombined(weight, bias, *bn.products(gradient, output.z, output.statistics))


def _recombined(weight: Tensor | None, bias: Tensor | None, dot: Tensor, total: Tensor) -> Tensor:
    """<g, w zhat + b> from D and S."""
    return dot.sum() if weight is None or bias is None else torch.dot(weight, dot) + torch.dot(bias, total)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of tensors of one shape, in at least float32."""
    if runs_by_rows(a) and runs_by_rows(b) and a.dtype == b.dtype:
        return torch.dot(bn.rows(a).view(-1), bn.rows(b).view(-1))
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    if a.device.type == "cpu" and a.stride() == b.stride() and a.is_contiguous():
        return torch.dot(a.reshape(-1), b.reshape(-1))
    return (a * b).sum()


def times(x: Tensor, factor: float) -> Tensor:
    """x * factor, x itself where that is 1."""
    return x if factor == 1.0 else x * factor


def _table_of(products: Mapping[GateIndex, Tensor], grad_mask: Table | None, table: Tensor) -> Tensor:
    """The products in their places, times what was asked; zero elsewhere."""
    if not products:
        return table
    rows, columns = zip(*products, strict=True)
    values = torch.stack(list(products.values())).to(table.dtype)
    if grad_mask is not None:
        values = values * values.new_tensor([grad_mask[row][column] for row, column in products])
    table[list(rows), list(columns)] = values
    return table
