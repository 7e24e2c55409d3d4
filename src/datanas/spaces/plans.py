"""What the cells of convolutional spaces are built from, and what an operation in them costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCell
from datanas.core.errors import ArchitectureError, ConfigError, nearest
from datanas.core.registry import Registry
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_macs, count_parameters, move_to
from datanas.kernels.mixed import MixedNode
from datanas.kernels.node_sum import Shared
from datanas.kernels.partial import PartialNode, Split, split_state
from datanas.ops import NONE, OpSettings, operations
from datanas.ops.identity import Zero
from datanas.spaces.workload import Workload


@dataclass(frozen=True)
class CellPlan:
    """What a cell is built from.

    Attributes:
        choices: its operations.
        targets: its searched nodes, in order.
        outputs: the nodes that make up its output.
        reads: for each input node whether an operation or the output reads it.
        parts: of the channels, the first of which the operations read; 1 for all channels.
    """

    choices: tuple[CellOperation[str], ...]
    targets: tuple[int, ...]
    outputs: tuple[int, ...]
    reads: tuple[bool, ...]
    parts: int = 1


def every_choice(group: ChoiceGroup) -> Iterator[CellOperation[str]]:
    """Every candidate of a group; `none` needs no module."""
    for edge, (source, target) in enumerate(group.edges):
        for op, primitive in enumerate(group.primitives):
            if primitive != NONE:
                yield CellOperation(edge, op, source, target, primitive)


def supernet_plan(group: ChoiceGroup, parts: int = 1) -> CellPlan:
    """Every candidate of a group."""
    targets = tuple(dict.fromkeys(target for _, target in group.edges))
    return CellPlan(tuple(every_choice(group)), targets, group.outputs, (True,) * group.inputs, parts)


def reads_under(plan: CellPlan, gates: Gates | None) -> tuple[bool, ...]:
    """For each input node whether anything reads it that runs under these gates.

    Where a gradient of the gates is asked for, closed operations read too. A cell in which nothing reads an input is
    nothing that can be left out: it still gives the shape of its output.
    """
    if gates is None:
        return plan.reads
    read = {choice.source for choice in plan.choices if gates.host[choice.edge][choice.op] != 0}
    reads = tuple(node in read or node in plan.outputs for node in range(len(plan.reads)))
    everything = gates.dense or gates.learns or plan.parts > 1 or not any(reads)
    return plan.reads if everything else reads


def network_plan(architecture: Architecture, group: str, live: LiveCell | None = None) -> CellPlan:
    """The chosen operations, or those of its live part; one that is chosen twice on an edge appears twice.

    The factors of the operations are those of the whole code either way.
    """
    require_known(architecture, group)
    cell, factors = architecture.cells[group], architecture.weights(group)
    code = cell.code if live is None else live.code
    choices = tuple(
        CellOperation(edge, op, source, target, cell.primitives[op], float(factors[edge, op]) / int(code[edge, op]))
        for edge, (source, target) in enumerate(cell.edges)
        for op in np.flatnonzero(code[edge]).tolist()
        for _ in range(int(code[edge, op]))
    )
    if live is None:
        targets = tuple(dict.fromkeys(target for _, target in cell.edges))
        return CellPlan(choices, targets, cell.outputs, (True,) * cell.inputs)
    return CellPlan(choices, tuple(sorted({choice.target for choice in choices})), live.outputs, live.reads)


def known_once(names: tuple[str, ...], registry: Registry[Any]) -> tuple[str, ...]:
    """Primitives as they are; raises ValueError where one is not known, or is there twice."""
    for name in names:
        if name != NONE and name not in registry:
            raise ValueError(f"unknown {registry.kind} {name!r}; {nearest(name, {NONE, *registry})}")
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is listed twice")
    return names


def require_known(architecture: Architecture, group: str, known: Registry[Any] = operations) -> None:
    """Refuse a cell that chooses an operation that is not known.

    Raises:
        ArchitectureError: it does; the nearest known name stands beside it.
    """
    cell = architecture.cells[group]
    for primitive, column in zip(cell.primitives, cell.code.T, strict=True):
        if column.any() and primitive not in known:
            raise ArchitectureError(f"cells.{group}: unknown {known.kind} {primitive!r}; {nearest(primitive, known)}")


def free_name(name: str, taken: Collection[str]) -> str:
    """A name for one operation more: an architecture may hold the same twice, and weights are kept by name."""
    return name if name not in taken else f"{name}_again{len(taken)}"


class CellNodes(nn.ModuleDict):
    """The searched nodes of a cell, by number.

    Args:
        plan: the cell's operations.
        settings: the cell's width, and how its operations are built.
        halved: how many of the first nodes are left by operations of stride 2.
    """

    def __init__(self, plan: CellPlan, settings: OpSettings, halved: int = 0) -> None:
        super().__init__()
        self._parts, self._halved = plan.parts, halved
        settings = replace(settings, channels=settings.channels // plan.parts)
        by_target: dict[int, dict[str, CellOperation[nn.Module]]] = defaultdict(dict)
        for choice in plan.choices:
            module = operations[choice.operation](replace(settings, stride=2 if choice.source < halved else 1))
            siblings = by_target[choice.target]
            siblings[free_name(f"{choice.source}_{choice.operation}", siblings)] = choice.built(module)
        blank = Zero(2 if halved else 1)
        for target in plan.targets:
            node = MixedNode(by_target[target], blank)
            sources = {each.edge: each.source for each in by_target[target].values()}
            self[str(target)] = node if plan.parts == 1 else PartialNode(node, sources, plan.parts)

    def forward(self, inputs: Sequence[Tensor | None], gates: Gates | None = None) -> list[Tensor | None]:
        """The values of all nodes, from those of the input nodes; gates as for `MixedNode`.

        A node that is not built has none, nor needs an input that nothing reads.
        """
        states = list(inputs)
        splits: list[Split] = []
        shared = Shared()
        for name, node in self.items():
            states += [None] * (int(name) - len(states))
            if self._parts == 1:
                states.append(node(states, gates, shared))
                continue
            for index in range(len(splits), len(states)):
                splits.append(split_state(cast(Tensor, states[index]), self._parts, halve=index < self._halved))
            states.append(node(splits, gates, shared))
        return states


def check_parts(channels: int, parts: int) -> None:
    """Make sure that a first cell of this width can run its operations on one of `parts` parts of the channels.

    Raises:
        ConfigError: it cannot.
    """
    if parts < 1 or channels % parts:
        raise ConfigError(
            f"space.channels: {channels} cannot be divided into the {parts} equal parts of this sampler; "
            f"take a multiple of {parts}, or give the sampler other parts"
        )


@cache
def operation_cost(
    primitive: str, channels: int, stride: int, size: tuple[int, int], out_channels: int | None = None
) -> tuple[int, int]:
    """(parameters, multiply-adds) of one operation on one feature map."""
    with torch.device("meta"):
        module = operations[primitive](OpSettings(channels, stride, out_channels=out_channels))
        return count_parameters(module), count_macs(module, torch.empty(1, channels, *size))


def feature_size(stem: nn.Module, example: Tensor) -> tuple[int, int]:
    """Height and width of the last feature map that a stem of two hands on."""
    training = stem.training
    with torch.no_grad():
        _, last = stem.eval()(example)
    stem.train(training)
    return last.shape[2], last.shape[3]


def conv_probe(
    workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
) -> Callable[[], object]:
    """A call that runs one operation on feature maps as the only one into a node."""
    plan = CellPlan((CellOperation(0, 0, 0, 1, workload.primitive),), (1,), (1,), (True,))
    settings = OpSettings(workload.channels, pooling_norm=pooling_norm)
    nodes = move_to(CellNodes(plan, settings, halved=1 if workload.stride == 2 else 0), device).eval()
    x = torch.randn(batch * workload.maps, workload.channels, *workload.size, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: nodes([x])
