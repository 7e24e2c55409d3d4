"""The steps of a recurrent cell through time (DARTS, ICLR 2019, Appendix A.1.2; DATA, Section 5.7).

T steps, B sequences, H hidden units. Node 0 reads the input x and the hidden state h of the step before,

    c, y = halves of x W_x + (m h) W_h,     s_0 = h + sigmoid(c) (tanh(y) - h),

where m is a dropout mask that stays the same through time. Every further node i sums over its edges j and the
activations f that its gates a choose there, each in a highway connection,

    c, y = halves of (m s_j) W_i,     s_i = sum over j, f of  a_jf (s_j + sigmoid(c) (f(y) - s_j)),

and the new hidden state is the mean of some nodes. While searching every s is normalised over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datanas.kernels.bare import is_bare
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.gates import Gates
from datanas.kernels.hidden_states import Call, HiddenStates
from datanas.kernels.node_norm import NodeNorm, NodeNorms
from datanas.kernels.products import product_type
from datanas.kernels.program import Elementwise, Program, program
from datanas.kernels.switch import own_kernels

Hidden = Float[Tensor, "batch hidden"]
Sequences = Float[Tensor, "time batch width"]


class NodeWeights(nn.ParameterDict):
    """The weight of each node by its number; called, so that what is hung on the calls of modules has its effect."""

    __call__ = nn.Module.__call__

    def forward(self) -> tuple[Tensor, ...]:
        """The weights in order."""
        return tuple(self[name] for name in self.keys())


@fx_leaf
class RecurrentSteps(nn.Module):
    """A recurrent cell, run over sequences.

    Args:
        choices: the activations that it may run.
        nodes: the number of nodes, the first one included.
        outputs: the nodes whose mean is the new hidden state.
        width, hidden: of the inputs and of the hidden state.
        norm: normalise every node over the batch, without scale and shift.
        deviation: weights are drawn uniformly from -deviation to deviation (DARTS: 0.04).
    """

    def __init__(
        self,
        choices: Sequence[CellOperation[Elementwise]],
        nodes: int,
        outputs: tuple[int, ...],
        *,
        width: int,
        hidden: int,
        norm: bool,
        deviation: float = 0.04,
    ) -> None:
        super().__init__()
        self._choices, self._nodes, self._outputs = tuple(choices), nodes, outputs
        self._all = program(self._choices, nodes, outputs)

        def weight(rows: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(rows, 2 * hidden).uniform_(-deviation, deviation))

        self.input, self.recurrent = weight(width), weight(hidden)
        self._targets = tuple(sorted({choice.target for choice in choices}))
        self.nodes = NodeWeights({str(target): weight(hidden) for target in self._targets})
        self.norms = nn.ModuleList(NodeNorm(hidden) for _ in range(nodes if norm else 0))

    def forward(
        self, inputs: Sequences, hidden: Hidden, mask: Hidden | None = None, gates: Gates | None = None
    ) -> Sequences:
        """The hidden state after every step, (T, B, H); the last one is carried on.

        Args:
            inputs: (T, B, width).
            hidden: the state before the first step.
            mask: what hidden state and nodes are multiplied by before a matrix; None for ones.
            gates: what runs; None in a rebuilt network.
        """
        time, batch, width = inputs.shape
        projected = (inputs.reshape(time * batch, width) @ self.input).view(time, batch, -1)
        learns = gates is not None and gates.learns
        kernel = own_kernels() and is_bare(self.norms)
        if not kernel and gates is not None and learns:
            # Every gate has its exact gradient here, whatever is asked.
            gates = Gates(gates.values, gates.host, dense=True)
        steps = self._all
        if gates is not None:
            steps = program(self._choices, self._nodes, self._outputs, gates, learns=learns)
        weights = dict(zip(self._targets, self.nodes(), strict=True))
        norm = NodeNorms(cast("list[NodeNorm]", list(self.norms)))
        if kernel:
            grad_mask, dtype = None if gates is None else gates.grad_mask, product_type(inputs)
            call = Call(steps, norm, tuple(weights), grad_mask, dtype)
            values = None if gates is None else gates.values
            projected = projected.to(self.input.dtype)
            outputs: Tensor = HiddenStates.apply(
                call, projected, hidden, mask, values, self.recurrent, *weights.values()
            )
        else:
            # torch.func hides whether gates require a gradient, so dense ones always count as if they did.
            values = gates.values if gates is not None and gates.dense else None
            outputs = _plain(steps, norm, projected, hidden, mask, values, self.recurrent, weights)
        norm.track(batch)
        return outputs


def _plain(
    steps: Program,
    norm: NodeNorms,
    projected: Tensor,
    hidden: Tensor,
    mask: Tensor | None,
    values: Tensor | None,
    recurrent: Tensor,
    weights: Mapping[int, Tensor],
) -> Tensor:
    """The hidden states by torch's own functions alone: derivatives of any order, compilation."""

    def masked(state: Tensor) -> Tensor:
        return state if mask is None else state * mask

    outputs = []
    for projection in projected.unbind():
        carried, wanted = (projection + masked(hidden) @ recurrent).chunk(2, dim=1)
        states = [norm(0, hidden + carried.sigmoid() * (wanted.tanh() - hidden))]
        for target in range(1, steps.nodes):
            total = torch.zeros_like(hidden)
            for _, edge in steps.into[target]:
                state = states[edge.source]
                carried, wanted = (masked(state) @ weights[target]).chunk(2, dim=1)
                carried = carried.sigmoid()
                for op, activation, factor in edge.opened:
                    term = state + carried * (activation.value(wanted) - state)
                    total = total + term * (factor if values is None else values[edge.index, op])
            states.append(norm(target, total))
        hidden = torch.stack([states[node] for node in steps.outputs]).mean(dim=0)
        outputs.append(hidden)
    return torch.stack(outputs)
