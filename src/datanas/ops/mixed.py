"""One node of a cell: the sum over its incoming edges of the chosen operations (Eq. 2-3), sampled or fixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Gates:
    """What one choice group runs in one forward pass.

    Attributes:
        values: the factor of each operation, 0 where closed; shape (edges, ops), on the supernet's device. It may
            require a gradient, which then is exact for open and closed gates alike.
        host: the same numbers on the host, so that choosing what runs never waits for the device.
        dense: run every operation, closed ones too: the textbook execution, kept as the reference.
    """

    values: Float[Tensor, "edges ops"]
    host: tuple[tuple[float, ...], ...]
    dense: bool = False

    @classmethod
    def of(cls, values: Tensor, device: torch.device | str = "cpu", *, dense: bool = False) -> Gates:
        """Gates from factors that lie on the host."""
        rows = tuple(tuple(row) for row in values.detach().tolist())
        return cls(values.to(device, non_blocking=True), rows, dense)


@dataclass(frozen=True)
class Candidate:
    """One operation that a node may run.

    Attributes:
        edge, op: its place in the group's gates.
        source: the node it reads.
        factor: its constant factor in a rebuilt network; unused where gates are given.
        module: the operation.
    """

    edge: int
    op: int
    source: int
    module: nn.Module
    factor: float = 1.0


class MixedNode(nn.Module):
    """The value of one node.

    Args:
        candidates: the node's operations by name; names become keys of the state dictionary.
        blank: what the node is when nothing enters it, as a function of the first state.
    """

    def __init__(self, candidates: Mapping[str, Candidate], blank: nn.Module) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({name: candidate.module for name, candidate in candidates.items()})
        self._candidates = tuple(candidates.values())
        self._blank = blank
        self.drop_path = 0.0

    def forward(self, states: Sequence[Tensor], gates: Gates | None = None) -> Tensor:
        """The node's value from the values of the nodes before it; a rebuilt network gives no gates."""
        if gates is None:
            chosen = [(candidate, candidate.factor) for candidate in self._candidates]
        else:
            chosen = [
                (candidate, gates.host[candidate.edge][candidate.op])
                for candidate in self._candidates
                if gates.dense or gates.host[candidate.edge][candidate.op] != 0.0
            ]
        outputs = [self._run(candidate, states) for candidate, _ in chosen]
        factors = [factor for _, factor in chosen]
        if gates is not None and gates.values.requires_grad and torch.is_grad_enabled():
            return self._with_gradient(states, gates, [candidate for candidate, _ in chosen], factors, outputs)
        return _weighted_sum(outputs, factors) if outputs else self._blank(states[0]).contiguous()

    def _run(self, candidate: Candidate, states: Sequence[Tensor]) -> Tensor:
        output: Tensor = candidate.module(states[candidate.source])
        if self.drop_path > 0 and self.training and not isinstance(candidate.module, nn.Identity):
            from timm.layers import drop_path  # takes as long to import as torch

            output = drop_path(output, self.drop_path, training=True)
        return output

    def _with_gradient(
        self,
        states: Sequence[Tensor],
        gates: Gates,
        opened: list[Candidate],
        factors: list[float],
        outputs: list[Tensor],
    ) -> Tensor:
        ran = {id(candidate) for candidate in opened}
        closed = [candidate for candidate in self._candidates if id(candidate) not in ran]
        inputs = [states[candidate.source].detach() for candidate in closed]
        blank = None if outputs else self._blank(states[0]).contiguous()
        total: Tensor = _GatedSum.apply(gates.values, opened, factors, closed, inputs, blank, *outputs)
        return total


def set_drop_path(module: nn.Module, probability: float) -> None:
    """Let every node in `module` drop each operation of each example with this probability while training.

    Identities are never dropped.
    """
    for part in module.modules():
        if isinstance(part, MixedNode):
            part.drop_path = probability


class _GatedSum(torch.autograd.Function):
    """sum_k gate_k * output_k, with the exact gradient of every gate.

    The gradient of a gate is the inner product of the sum's gradient with that operation's output, whatever the gate's
    value. A closed operation does not run forward; its output is computed in backward, without a graph, and dropped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        opened: list[Candidate],
        factors: list[float],
        closed: list[Candidate],
        inputs: list[Tensor],
        blank: Tensor | None,
        *outputs: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*outputs)
        ctx.opened, ctx.factors, ctx.closed, ctx.inputs = opened, factors, closed, inputs
        ctx.gates = values.shape, values.dtype
        if blank is not None:
            ctx.autocast = _autocast_state(blank.device.type)
            return blank.clone()
        ctx.autocast = _autocast_state(outputs[0].device.type)
        return _weighted_sum(list(outputs), factors, copy=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        device, enabled, dtype = ctx.autocast
        products = [_inner(gradient, output) for output in ctx.saved_tensors]
        with torch.no_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
            for candidate, x in zip(ctx.closed, ctx.inputs, strict=True):
                with statistics_kept(candidate.module):
                    products.append(_inner(gradient, candidate.module(x)))
        shape, dtype = ctx.gates
        into_gates = gradient.new_zeros(shape, dtype=dtype)
        if products:
            rows = [candidate.edge for candidate in (*ctx.opened, *ctx.closed)]
            columns = [candidate.op for candidate in (*ctx.opened, *ctx.closed)]
            into_gates[rows, columns] = torch.stack(products).to(dtype)
        into_outputs = [
            gradient.to(output.dtype) * factor if factor != 1.0 else gradient.to(output.dtype)
            for output, factor in zip(ctx.saved_tensors, ctx.factors, strict=True)
        ]
        return (into_gates, None, None, None, None, None, *into_outputs)


def _weighted_sum(outputs: list[Tensor], factors: list[float], *, copy: bool = False) -> Tensor:
    total = outputs[0] if factors[0] == 1.0 else outputs[0] * factors[0]
    if copy and len(outputs) == 1 and factors[0] == 1.0:
        return total.clone()
    for output, factor in zip(outputs[1:], factors[1:], strict=True):
        total = torch.add(total, output, alpha=factor)
    return total


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product in at least float32."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return (a.to(dtype) * b.to(dtype)).sum()


def _autocast_state(device: str) -> tuple[str, bool, torch.dtype]:
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Run a block in which the batch norms of `module` do not update their running statistics."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, was in zip(norms, tracked, strict=True):
            norm.track_running_stats = was
