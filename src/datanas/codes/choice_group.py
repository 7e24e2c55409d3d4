"""The choice group: edges that choose among the same operations. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datanas.codes.liveness import live_edges

if TYPE_CHECKING:
    from torch import Tensor

NONE = "none"
"""The primitive that stands for "no operation"; its gate is never seen in the network."""


@dataclass(frozen=True)
class ChoiceGroup:
    """Edges that choose among the same primitives, and are chosen once for every cell of their kind.

    Attributes:
        name: "normal", "reduce", ...
        edges: (source, target) nodes of each edge.
        primitives: the candidate operations, in the order of the gates' columns.
        outputs: the nodes whose values make up the group's output.
        inputs: number of input nodes, which come first.
        single: whether an edge of an architecture holds exactly one operation (`none` is one), as in tables of known
            accuracies. While searching it may hold several.
        fan_in: how many edges into each node DARTS' rule keeps.
        samples: M for the methods that draw several times, how often its vectors are drawn from; None for the method's.
        depth: where its operations stand in the network, in the mean, from 0 at the stem to 1 at the head; None where
            they stand everywhere, or the space does not say.
    """

    name: str
    edges: tuple[tuple[int, int], ...]
    primitives: tuple[str, ...]
    outputs: tuple[int, ...]
    inputs: int
    single: bool = False
    fan_in: int = 2
    samples: int | None = None
    depth: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(edges, primitives)."""
        return len(self.edges), len(self.primitives)

    @property
    def null(self) -> int | None:
        """The column of `none`, where the group offers it."""
        return self.primitives.index(NONE) if NONE in self.primitives else None

    @property
    def partition(self) -> tuple[tuple[int, ...], ...]:
        """The edges that a node-scope distribution pools: those into a node, or each alone if it holds just one."""
        return tuple((edge,) for edge in range(len(self.edges))) if self.single else self.by_target

    @property
    def by_target(self) -> tuple[tuple[int, ...], ...]:
        """The edges into each node, in the order of the nodes."""
        targets = dict.fromkeys(target for _, target in self.edges)
        return tuple(tuple(i for i, (_, t) in enumerate(self.edges) if t == target) for target in targets)

    def is_open(self, table: Tensor) -> list[bool]:
        """For each edge whether a table, shape (edges, ops), runs anything on it; `none` is nothing."""
        rows = table.detach().tolist()
        return [any(value != 0 for op, value in enumerate(row) if op != self.null) for row in rows]

    def lets_through(self, table: Tensor) -> bool:
        """Whether what a table, shape (edges, ops), runs leads from an input to an output."""
        return bool(live_edges(self.edges, self.is_open(table), self.outputs, self.inputs).outputs)
