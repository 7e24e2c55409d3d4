"""A recurrent cell through time as one autograd function. `datanas.kernels.recurrence` has the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datanas.kernels.node_norm import NodeNorms
from datanas.kernels.products import add_product, product, write_product
from datanas.kernels.program import Edge, Program
from datanas.kernels.switch import first_order

BLOCK = 2**16
"""Numbers of a tensor that stays in a core's cache along with a few others."""


@dataclass(frozen=True)
class Call:
    """What a forward pass is told beside tensors.

    Attributes:
        targets: the node of each weight.
        grad_mask: a factor for the gradient of each gate; None for ones.
        dtype: of the factors of matrix products.
    """

    steps: Program
    norm: NodeNorms
    targets: tuple[int, ...]
    grad_mask: tuple[tuple[float, ...], ...] | None
    dtype: torch.dtype


class HiddenStates(torch.autograd.Function):
    """(call, input projections, first state, mask, gates, recurrent weight, node weights) -> states after each step.

    For every step it keeps the nodes and, of each edge that runs, the gate of its highway and what its activations are
    given. A node meets the weights of all nodes that read it in one product. The gradient of a closed gate is made on
    the way back, where its node's gradient is known: by then its term costs one product and no memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        projected: Tensor,
        hidden: Tensor,
        mask: Tensor | None,
        values: Tensor | None,
        recurrent: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        steps, norm = call.steps, call.norm
        of_target = dict(zip(call.targets, weights, strict=True))
        joined = [_joined(edges, of_target, call.dtype) for edges in steps.out_of]
        rounded = recurrent.to(call.dtype)
        time, (batch, width) = len(projected), hidden.shape
        keeps = any(ctx.needs_input_grad)
        rows = time if keeps else 1
        outputs = projected.new_empty(time, batch, width)
        states = projected.new_empty(rows, steps.nodes, batch, width)
        first = projected.new_empty(rows, batch, 2, width)
        products = [projected.new_empty(rows, batch, len(edges), 2, width) for edges in steps.out_of]
        inverse: dict[tuple[int, int], Tensor] = {}
        before = hidden
        for step in range(time):
            row = step if keeps else 0
            write_product(first[row].view(batch, -1), _masked(before, mask), rounded, projected[step])
            gate, wanted = first[row, :, 0].sigmoid_(), first[row, :, 1].tanh_()
            for node in range(steps.nodes):
                state = torch.lerp(before, wanted, gate) if node == 0 else None
                for slot, edge in steps.into[node]:
                    highway, given = products[edge.source][row, :, slot].unbind(1)
                    part = torch.lerp(*_ends(edge, states[row, edge.source], given), highway)
                    state = part if state is None else state.add_(part)
                if state is None:
                    state = torch.zeros_like(before)
                if norm:
                    state, inverse[step, node] = norm.apply(node, state)
                states[row, node] = state
                weight = joined[node]
                if weight is not None:
                    write_product(products[node][row].view(batch, -1), _masked(state, mask), weight)
                    products[node][row, :, :, 0].sigmoid_()
            before = torch.mean(states[row, list(steps.outputs)], dim=0, out=outputs[step])
        if keeps:
            ctx.call, ctx.inverse = call, inverse
            ctx.save_for_backward(hidden, mask, values, recurrent, *weights, states, first, outputs, *products)
        return outputs

    @staticmethod
    @first_order
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Backward(ctx).walk(gradient)


class _Backward:
    """The way back through the steps."""

    def __init__(self, ctx: Any) -> None:
        call: Call = ctx.call
        self.call, self.steps, self.inverse = call, call.steps, ctx.inverse
        self.hidden, self.mask, self.values, self.recurrent, *rest = ctx.saved_tensors
        weights, rest = rest[: len(call.targets)], rest[len(call.targets) :]
        self.states, self.first, self.outputs, *self.products = rest
        of_target = dict(zip(call.targets, weights, strict=True))
        self.joined = [_joined(edges, of_target, call.dtype) for edges in self.steps.out_of]
        self.rounded = self.recurrent.to(call.dtype)
        _, _, _, _, self.learns, self.trains_recurrent, *trains = ctx.needs_input_grad
        self.trains = dict(zip(call.targets, trains, strict=True))
        self.grad_mask = [_joined(edges, of_target, call.dtype) if self.learns else None for edges in self.steps.closed]
        self.into_joined = [
            torch.zeros_like(weight, dtype=self.recurrent.dtype) if weight is not None and any(trains) else None
            for weight in self.joined
        ]
        self.into_recurrent = torch.zeros_like(self.recurrent) if self.trains_recurrent else None
        self.scratch = [torch.empty_like(product[0]) for product in self.products]
        self.slopes = torch.empty_like(self.states) if self.learns else None

    def walk(self, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of what `forward` was given."""
        into_projected = torch.empty_like(self.first)
        following = torch.zeros_like(self.hidden)
        for step in reversed(range(len(gradient))):
            into_first = self._nodes(step, (gradient[step] + following) / len(self.steps.outputs))
            before = self.outputs[step - 1] if step > 0 else self.hidden
            highway, wanted = self.first[step, :, 0], self.first[step, :, 1]
            passed = into_first * highway
            slope = into_projected[step]
            torch.mul(passed * (1 - highway), wanted - before, out=slope[:, 0])
            torch.mul(passed, 1 - wanted * wanted, out=slope[:, 1])
            flat = slope.flatten(1)
            if self.into_recurrent is not None:
                add_product(self.into_recurrent, _masked(before, self.mask).T, flat, self.call.dtype)
            following = into_first - passed + _masked(product(flat, self.rounded.T), self.mask)
        return (
            None,
            into_projected.flatten(2),
            following,
            None,
            self._gates(),
            self.into_recurrent,
            *(self._weight(target) for target in self.call.targets),
        )

    def _nodes(self, step: int, share: Tensor) -> Tensor:
        """From the gradient of each output node to that of the first node before its norm."""
        steps, states = self.steps, self.states[step]
        into = [share.clone() if node in steps.outputs else torch.zeros_like(share) for node in range(steps.nodes)]
        for node in reversed(range(steps.nodes)):
            weight, slope = self.joined[node], self.scratch[node].flatten(1)
            if weight is not None:
                into[node] += _masked(product(slope, weight.T), self.mask)
                into_weight = self.into_joined[node]
                if into_weight is not None:
                    add_product(into_weight, _masked(states[node], self.mask).T, slope, self.call.dtype)
            if self.call.norm:
                into[node] = self._through_norm(step, node, into[node])
            if self.slopes is not None:
                self.slopes[step, node] = into[node]
            for slot, edge in steps.into[node]:
                self._edge(step, slot, edge, into)
        return into[0]

    def _through_norm(self, step: int, node: int, gradient: Tensor) -> Tensor:
        inverse: Tensor = self.inverse[step, node]
        if not self.call.norm.of_batch(node):
            return gradient * inverse
        state: Tensor = self.states[step, node]
        along = (gradient * state).mean(dim=0)
        return (gradient - gradient.mean(dim=0) - state * along) * inverse

    def _edge(self, step: int, slot: int, edge: Edge, into: list[Tensor]) -> None:
        gradient, source = into[edge.target], self.states[step, edge.source]
        highway, given = self.products[edge.source][step, :, slot].unbind(1)
        passed = gradient * highway
        outputs = [activation.value(given) for _, activation, _ in edge.opened]
        slopes = [activation.slope_at(given, y) for (_, activation, _), y in zip(edge.opened, outputs, strict=True)]
        factors = [factor for _, _, factor in edge.opened]
        scale = sum(factors)
        wanted = _sum(factors, outputs)
        into_product = self.scratch[edge.source][:, slot]
        torch.mul(passed * (1 - highway), wanted - _times(scale, source), out=into_product[:, 0])
        torch.mul(passed, _sum(factors, slopes), out=into_product[:, 1])
        if scale != 0.0:
            into[edge.source].add_(gradient - passed, alpha=scale)

    def _gates(self) -> Tensor | None:
        """The gradient of the gates: each is its term's product with the gradient of its node, over all steps.

        Steps are taken together as long as they stay in a cache; small ones are too many to take alone.
        """
        if self.values is None or self.slopes is None:
            return None
        dots: dict[tuple[int, int], list[Tensor]] = {}
        for block in _blocks(len(self.states), self.hidden.numel()):
            for node in range(self.steps.nodes):
                self._gates_out_of(node, block, dots)
        table = torch.zeros_like(self.values)
        for (edge, op), parts in dots.items():
            table[edge, op] = torch.stack(parts).sum()
        return table if self.call.grad_mask is None else table * table.new_tensor(self.call.grad_mask)

    def _gates_out_of(self, node: int, block: slice, dots: dict[tuple[int, int], list[Tensor]]) -> None:
        assert self.slopes is not None
        source = self.states[block, node]
        parts = [(edge, self.products[node][block, :, slot]) for slot, edge in enumerate(self.steps.out_of[node])]
        weight, closed = self.grad_mask[node], self.steps.closed[node]
        if weight is not None:
            given = product(_masked(source, self.mask), weight).to(source.dtype)
            given = given.view(*source.shape[:2], len(closed), 2, -1)
            given[:, :, :, 0].sigmoid_()
            parts += [(edge, given[:, :, slot]) for slot, edge in enumerate(closed)]
        for edge, pair in parts:
            gradient = self.slopes[block, edge.target]
            passed, wanted = gradient * pair[:, :, 0], pair[:, :, 1]
            common = _dot(gradient - passed, source)
            for op, activation in (*((op, activation) for op, activation, _ in edge.opened), *edge.closed_with_grad):
                dots.setdefault((edge.index, op), []).append(common + _dot(passed, activation.value(wanted)))

    def _weight(self, target: int) -> Tensor | None:
        """The gradient of one node's weight, from those of the joined ones; None where the node reads nothing."""
        if not self.trains[target]:
            return None
        total: Tensor | None = None
        for slot, edge in self.steps.into[target]:
            into_joined = self.into_joined[edge.source]
            assert into_joined is not None
            part = into_joined.chunk(len(self.steps.out_of[edge.source]), dim=1)[slot]
            total = part.contiguous() if total is None else total + part
        return total


def _blocks(time: int, size: int) -> list[slice]:
    """Consecutive steps, each of so many numbers, together."""
    count = max(1, BLOCK // size)
    return [slice(start, start + count) for start in range(0, time, count)]


def _joined(edges: Sequence[Edge], weights: Mapping[int, Tensor], dtype: torch.dtype) -> Tensor | None:
    """The weights of all nodes that read one, side by side."""
    return torch.cat([weights[edge.target].to(dtype) for edge in edges], dim=1) if edges else None


def _masked(state: Tensor, mask: Tensor | None) -> Tensor:
    return state if mask is None else state * mask


def _ends(edge: Edge, source: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """What the highway of an edge passes on, and what it mixes in."""
    factors = [factor for _, _, factor in edge.opened]
    return _times(sum(factors), source), _sum(factors, [activation.value(given) for _, activation, _ in edge.opened])


def _sum(factors: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    total = _times(factors[0], parts[0])
    for factor, part in zip(factors[1:], parts[1:], strict=True):
        total = torch.add(total, part, alpha=factor)
    return total


def _times(factor: float, part: Tensor) -> Tensor:
    return part if factor == 1.0 else factor * part


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return torch.dot(first.flatten(), second.flatten())
