"""The map between the alphas of a choice group and its probability vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup

Scope = Literal["edge", "node"]
Merge = Literal["mean", "sum"]
"""How the `none` of all edges into a node become one entry."""


def by_group(samples: int | Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """How often the vectors of each group are drawn from, where all are drawn from alike or each in its own way."""
    return {name: samples if isinstance(samples, int) else samples[name] for name in names}


class Vectors:
    """The probability vectors of one choice group.

    With scope `edge` there is one for each edge. With scope `node` there is one for each node: an entry for `none`,
    into which those of its incoming edges are merged, then the operations of all these edges. Shorter vectors are
    padded.

    Args:
        merge: how. `mean` is ours: the merged entry weighs as much as one operation when alpha is flat. `sum` is what
            the authors' program does when it derives: the entry weighs as much as its parts together.

    Attributes:
        shape: (vectors, entries).
        null: the entry of `none`, where the group offers it; the same in every vector.
        mask: bool (vectors, entries), False at padding.
        members: the edges of each vector.
        by_target: the vectors into each node, in the order of the nodes; `rows` are all of them in that order.
    """

    def __init__(self, group: ChoiceGroup, scope: Scope, merge: Merge = "mean") -> None:
        self.group = group
        self._merge = merge
        edges, ops = group.shape
        members = [[edge] for edge in range(edges)] if scope == "edge" else [list(part) for part in group.partition]
        merged = scope == "node" and group.null is not None
        columns = [op for op in range(ops) if not (merged and op == group.null)]
        self.null = 0 if merged else group.null
        start = 1 if merged else 0
        length = max(map(len, members)) * len(columns) + start
        padding = edges * ops
        self._entry = torch.full((len(members), length), padding)
        self._place = torch.full((padding,), len(members) * length)
        self._merged = torch.full((len(members), max(map(len, members))), padding)
        for row, part in enumerate(members):
            flat = [edge * ops + op for edge in part for op in columns]
            self._entry[row, start : start + len(flat)] = torch.tensor(flat)
            self._place[flat] = row * length + start + torch.arange(len(flat))
            if merged and group.null is not None:
                self._merged[row, : len(part)] = torch.tensor([edge * ops + group.null for edge in part])
        self.mask = self._entry != padding
        self.mask[:, :start] = True
        self._has_merged = merged
        self.shape = (len(members), length)
        self.members = tuple(tuple(part) for part in members)
        into: dict[int, list[int]] = {}
        for row, part in enumerate(members):
            into.setdefault(group.edges[part[0]][1], []).append(row)
        self.by_target = tuple(tuple(into[target]) for target in sorted(into))
        self.rows = tuple(row for rows in self.by_target for row in rows)

    def log_probs(self, logits: Float[Tensor, "edges ops"]) -> Float[Tensor, "vectors entries"]:
        """Softmax over each vector, in log space; -inf at padding."""
        flat = torch.cat([logits.flatten(), logits.new_full((1,), -torch.inf)])
        vectors = flat[self._entry]
        if self._has_merged:
            null = flat[self._merged].logsumexp(dim=1, keepdim=True)
            if self._merge == "mean":
                null = null - torch.tensor([[len(part)] for part in self.members], dtype=logits.dtype).log()
            vectors = torch.cat([null, vectors[:, 1:]], dim=1)
        return vectors.log_softmax(dim=1)

    def target(self, row: int) -> int:
        """The node that the edges of a vector lead to."""
        return self.group.edges[self.members[row][0]][1]

    def sources(self, row: int) -> frozenset[int]:
        """The nodes that the edges of a vector leave."""
        return frozenset(self.group.edges[edge][0] for edge in self.members[row])

    def leaving(self, row: int, nodes: Collection[int]) -> Bool[Tensor, " entries"]:
        """Which entries of a vector are operations, `none` aside, on edges that leave one of these nodes."""
        edges, ops = self.group.shape
        leaves = torch.tensor([*(source in nodes for source, _ in self.group.edges), False])
        is_operation = self._entry[row] % ops != (self.group.null if self.group.null is not None else -1)
        return leaves[self._entry[row].div(ops, rounding_mode="floor").clamp_max(edges)] & is_operation

    def to_edges(self, vectors: Float[Tensor, "vectors entries"]) -> Float[Tensor, "edges ops"]:
        """Each operation's entry; 0 for a `none` that was merged."""
        flat = torch.cat([vectors.flatten(), vectors.new_zeros(1)])
        return flat[self._place].reshape(self.group.shape)

    def to_vectors(self, table: Float[Tensor, "edges ops"]) -> Float[Tensor, "vectors entries"]:
        """The entries of a table by vector, 0 at padding and at a merged `none`; `to_edges` is its inverse there."""
        flat = torch.cat([table.flatten(), table.new_zeros(1)])
        return flat[self._entry]

    def shares(self, probs: Float[Tensor, "vectors entries"]) -> Float[Tensor, "edges ops"]:
        """Vectors as a table with the same sums; a merged `none` is spread evenly over its edges."""
        table = self.to_edges(probs)
        if self._has_merged:
            for row, part in enumerate(self.members):
                table[list(part), self.group.null] = probs[row, 0] / len(part)
        return table

    def operations(self, codes: Float[Tensor, "vectors entries"]) -> Float[Tensor, "vectors entries"]:
        """The codes with `none` set to 0: what the network can see."""
        if self.null is None:
            return codes
        seen = torch.ones(self.shape[1], dtype=codes.dtype)
        seen[self.null] = 0
        return codes * seen

    def flatness(self, probs: Float[Tensor, "vectors entries"]) -> float:
        """Mean entropy of the vectors over that of uniform ones: 1 is flat, 0 is one-hot."""
        entropy = torch.special.entr(probs.detach().double()).sum(dim=1)
        return float((entropy / self.mask.sum(dim=1).double().log()).mean())
