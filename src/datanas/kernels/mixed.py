"""One node of a cell: the sum over its incoming edges of the chosen operations (Eq. 2-3), sampled or fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datanas.core import seeding
from datanas.kernels.bare import operation_weights
from datanas.kernels.cell_operation import CellOperation, GateIndex
from datanas.kernels.gates import Gates
from datanas.kernels.layout import layout_of
from datanas.kernels.node_sum import ClosedGates, Opened, Output, Shared, node_sum
from datanas.kernels.norm import foreign_norms
from datanas.kernels.switch import own_kernels


class MixedNode(nn.Module):
    """The value of one node.

    Args:
        candidates: the node's operations by name; names become keys of the state dictionary.
        blank: what the node is when nothing enters it, as a function of the first input that there is.
    """

    draws_asking = True  # once `set_drop_path` has switched that on

    def __init__(self, candidates: Mapping[str, CellOperation[nn.Module]], blank: nn.Module) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({name: candidate.operation for name, candidate in candidates.items()})
        self.drops = False
        self._kept = torch.ones(())  # a tensor, so that a compiled network outlives its change
        self._candidates = tuple(candidates.values())
        self._alike = frozenset(each.index for each in self._candidates if _learns_nothing(each.operation))
        self._foreign = foreign_norms(self.ops)
        self._blank = blank

    def forward(self, states: Sequence[Tensor], gates: Gates | None = None, shared: Shared | None = None) -> Tensor:
        """The node's value from the values of the nodes before it.

        Args:
            states: those values.
            gates: what runs; None in a rebuilt network, which runs everything.
            shared: one mapping for all the nodes of a cell in one forward pass.
        """
        learns = gates is not None and gates.learns
        if not own_kernels():
            return self._plain(states, gates, everything=learns)
        opened = [
            Opened(each.index, factor, self._output(each, states[each.source]))
            for each, factor in self._chosen(gates, everything=gates is not None and gates.dense)
        ]
        blank = None if opened else self._nothing(states)
        if gates is None or not learns:
            return node_sum(opened, blank)
        closed = self._closed(states, gates, {part.index for part in opened}, Shared() if shared is None else shared)
        return node_sum(opened, blank, gates.values, closed, gates.grad_mask)

    def _chosen(self, gates: Gates | None, *, everything: bool) -> list[tuple[CellOperation[nn.Module], float]]:
        if gates is None:
            return [(each, each.factor) for each in self._candidates]
        pairs = [(each, gates.host[each.edge][each.op]) for each in self._candidates]
        return [(each, factor) for each, factor in pairs if everything or factor != 0.0]

    def _output(self, candidate: CellOperation[nn.Module], x: Tensor) -> Output:
        if self._drops(candidate.operation):
            return Output(_dropped(candidate.operation(x), self._kept))
        return Output.of(candidate.operation, x)

    def _drops(self, module: nn.Module) -> bool:
        return self.drops and self.training and not isinstance(module, nn.Identity)

    def _nothing(self, states: Sequence[Tensor | None]) -> Tensor:
        x = next(state for state in states if state is not None)
        blank: Tensor = self._blank(x)
        return blank.contiguous(memory_format=layout_of(x))

    def _closed(self, states: Sequence[Tensor], gates: Gates, opened: set[GateIndex], shared: Shared) -> ClosedGates:
        grad_mask = gates.grad_mask
        items = [
            each
            for each in self._candidates
            if each.index not in opened and (grad_mask is None or grad_mask[each.edge][each.op] != 0.0)
        ]
        inputs = [state.detach() for state in states]
        device = states[0].device.type
        dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        autocast = torch.autocast(device, dtype=dtype, enabled=enabled)
        weights = operation_weights(item.operation for item in items)
        return ClosedGates(items, self._alike, inputs, shared, weights, self._foreign, autocast)

    def _plain(self, states: Sequence[Tensor], gates: Gates | None, *, everything: bool) -> Tensor:
        """The sum by torch's own functions alone, which have derivatives of any order and can be compiled.

        Every gate has its exact gradient here, whatever is asked.
        """
        # torch.func hides whether gates require a gradient, so dense ones always count as if they did.
        everything = everything or (gates is not None and gates.dense)
        total: Tensor | None = None
        for each, factor in self._chosen(gates, everything=everything):
            output = each.operation(states[each.source])
            if self._drops(each.operation):
                output = _dropped(output, self._kept)
            weighted = output * (gates.values[each.edge, each.op] if gates is not None and everything else factor)
            total = weighted if total is None else total + weighted
        return self._nothing(states) if total is None else total


def set_drop_path(module: nn.Module, probability: float) -> None:
    """Let every node in `module` drop each operation of each example with this probability while training.

    What is kept is scaled up by 1 / (1 - probability). Identities are never dropped.
    """
    for part in module.modules():
        if isinstance(part, MixedNode):
            part.drops = probability > 0
            part._kept.fill_(1 - probability)


def _dropped(output: Tensor, keep_prob: Tensor) -> Tensor:
    noise = output.new_empty((output.shape[0], 1, 1, 1), dtype=torch.get_default_dtype())
    stays = noise.uniform_(generator=seeding.current(output.device)) < keep_prob
    return output * (stays / keep_prob).to(output.dtype)


def _learns_nothing(module: nn.Module) -> bool:
    """Whether an operation has neither parameters nor anything to keep, its last batch norm's statistics aside."""
    last = module[-1] if isinstance(module, nn.Sequential) and len(module) > 0 else None
    statistics = {id(buffer) for buffer in last.buffers()} if isinstance(last, nn.BatchNorm2d) else set()
    return not list(module.parameters()) and all(id(buffer) in statistics for buffer in module.buffers())
