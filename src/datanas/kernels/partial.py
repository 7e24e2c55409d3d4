"""Partial channel connections (Xu et al., PC-DARTS, ICLR 2020): operations act on a part of the channels of a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.gates import Gates
from datanas.kernels.layout import layout_of
from datanas.kernels.mixed import MixedNode
from datanas.kernels.node_sum import Shared
from datanas.kernels.switch import own_kernels


class Split(NamedTuple):
    """A state in two: the channels that operations read, and those that go past them at the size of their outputs."""

    active: Float[Tensor, "batch part height width"]
    bypass: Float[Tensor, "batch rest height_out width_out"]


def split_state(x: Float[Tensor, "batch channels height width"], parts: int, *, halve: bool = False) -> Split:
    """The first of `parts` equal parts of the channels, and the others.

    Args:
        x: a state; `parts` divides its channels.
        parts: at least 2.
        halve: take the largest of every 2x2 pixels of the others, as beside operations of stride 2.
    """
    layout, part = layout_of(x), x.shape[1] // parts
    active, bypass = (
        piece.contiguous(memory_format=layout) for piece in torch.split(x, [part, x.shape[1] - part], dim=1)
    )
    # An odd size is rounded up, as the operations do.
    return Split(active, F.max_pool2d(bypass, 2, 2, ceil_mode=True) if halve else bypass)


class PartialNode(nn.Module):
    """The value of one node whose operations read a part of the channels.

    Each operation's output stands beside the channels that went past it, and the channels are shuffled:
    sum_{e, o} g_eo shuffle(o(x_e), bypass_e) = shuffle(sum_{e, o} g_eo o(x_e), sum_e (sum_o g_eo) bypass_e). The inner
    sum runs over all columns, that of `none` too.

    Args:
        mixed: the node's operations, built for channels / `parts`.
        sources: the state at the beginning of each edge into the node, by edge.
        parts: of the channels, and groups of the shuffle.
    """

    def __init__(self, mixed: MixedNode, sources: Mapping[int, int], parts: int) -> None:
        super().__init__()
        self.mixed = mixed
        self._sources = dict(sources)
        self._parts = parts

    def forward(self, states: Sequence[Split], gates: Gates, shared: Shared | None = None) -> Tensor:
        """The node's value from the split values of the nodes before it; otherwise as `MixedNode.forward`."""
        active = self.mixed([state.active for state in states], gates, shared)
        return _shuffled(active, self._bypass([state.bypass for state in states], gates), self._parts)

    def _bypass(self, states: Sequence[Tensor], gates: Gates) -> Tensor:
        # torch.func hides whether gates require a gradient, so dense ones always count as if they did.
        if gates.dense or gates.learns:
            sums = _row_sums(gates)
            weighted = [states[source] * sums[edge] for edge, source in self._sources.items()]
            return sum(weighted[1:], weighted[0])
        total: Tensor | None = None
        for edge, source in self._sources.items():
            factor, state = sum(gates.host[edge]), states[source]
            if factor != 0.0:
                total = state * factor if total is None else torch.add(total, state, alpha=factor)
        return torch.zeros_like(states[0]) if total is None else total


def _row_sums(gates: Gates) -> Float[Tensor, " edges"]:
    """The sum of each edge's gates, whose gradients are as masked; exact under plain kernels, as in `MixedNode`."""
    values = gates.values
    if gates.grad_mask is not None and own_kernels():
        fixed = values.detach()
        values = fixed + (values - fixed) * values.new_tensor(gates.grad_mask)
    return values.sum(dim=1)


def _shuffled(active: Tensor, bypass: Tensor, parts: int) -> Tensor:
    """Channel c of part p goes to c * parts + p: a channel shuffle of `parts` groups, in one copy."""
    layout = layout_of(active)
    first = active.permute(0, 2, 3, 1).unsqueeze(4)
    others = torch.unflatten(bypass.permute(0, 2, 3, 1), 3, (parts - 1, -1)).transpose(3, 4)
    return torch.cat([first, others], dim=4).flatten(3).permute(0, 3, 1, 2).contiguous(memory_format=layout)
