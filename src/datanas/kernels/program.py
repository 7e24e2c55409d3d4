"""What a recurrent cell runs in one forward pass: a list made once, so that no step asks again which gates are open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates


class Elementwise(Protocol):
    """An elementwise function and its derivative, such as `datanas.ops.activations.Activation`."""

    @property
    def value(self) -> Callable[[Tensor], Tensor]:
        """f, of the shape of its argument."""

    def slope_at(self, x: Tensor, y: Tensor) -> Tensor:
        """f'(x), where y = f(x)."""


@dataclass(frozen=True)
class Edge:
    """What one edge runs in a forward pass.

    Attributes:
        index: its row in the gates.
        opened: (column, activation, factor) of what runs.
        closed_with_grad: (column, activation) of what does not run but is asked for its gradient.
    """

    index: int
    source: int
    target: int
    opened: tuple[tuple[int, Elementwise, float], ...]
    closed_with_grad: tuple[tuple[int, Elementwise], ...] = ()


@dataclass(frozen=True)
class Program:
    """What a cell runs in a forward pass.

    Attributes:
        nodes: the number of nodes, the first one included.
        outputs: those whose mean is the new hidden state.
        edges: by target, then source; an edge that runs nothing is there only if it is asked for a gradient.
        out_of: the edges that run, by source.
        into: the edges that run, by target, each with its place among those out of its source.
        closed: the edges that run nothing but are asked, by source.
    """

    nodes: int
    outputs: tuple[int, ...]
    edges: tuple[Edge, ...]
    out_of: list[list[Edge]] = field(init=False)
    into: list[list[tuple[int, Edge]]] = field(init=False)
    closed: list[list[Edge]] = field(init=False)

    def __post_init__(self) -> None:
        out_of = [[edge for edge in self.edges if edge.source == node and edge.opened] for node in range(self.nodes)]
        into = [
            [(out_of[edge.source].index(edge), edge) for edge in self.edges if edge.target == node and edge.opened]
            for node in range(self.nodes)
        ]
        closed = [
            [edge for edge in self.edges if edge.source == node and not edge.opened] for node in range(self.nodes)
        ]
        for name, value in (("out_of", out_of), ("into", into), ("closed", closed)):
            object.__setattr__(self, name, value)


def program(
    choices: Sequence[CellOperation[Elementwise]],
    nodes: int,
    outputs: tuple[int, ...],
    gates: Gates | None = None,
    *,
    learns: bool = False,
) -> Program:
    """What runs under these gates; everything, with its constant factor, where there are none.

    Args:
        learns: whether the gates are asked for gradients.
    """
    by_edge: dict[tuple[int, int, int], list[CellOperation[Elementwise]]] = {}
    for choice in choices:
        by_edge.setdefault((choice.target, choice.source, choice.edge), []).append(choice)
    edges = []
    for (target, source, index), group in sorted(by_edge.items(), key=lambda item: item[0]):
        opened, closed = [], []
        for choice in group:
            factor = choice.factor if gates is None else gates.host[index][choice.op]
            if gates is None or gates.dense or factor != 0.0:
                opened.append((choice.op, choice.operation, factor))
            elif learns and (gates.grad_mask is None or gates.grad_mask[index][choice.op] != 0.0):
                closed.append((choice.op, choice.operation))
        if opened or closed:
            edges.append(Edge(index, source, target, tuple(opened), tuple(closed)))
    return Program(nodes, outputs, tuple(edges))
