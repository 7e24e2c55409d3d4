"""The rules `top_edges` and `top_operations` under additive bounds, exactly.

Without bounds both take the strongest of a node or edge, which is the code of the largest product of strengths among
those that they could keep. Under bounds it is the code of the largest product that keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers.labels import Step, best_selections
from datanas.samplers.limits import Limits

Entries = tuple[tuple[int, int], ...]
"""Edges and operations of a part of a code."""
Options = Callable[[ChoiceGroup, Sequence[int], Sequence[int]], Iterator[Entries]]


def top_edges_within(
    op_scores: Mapping[str, Tensor], groups: Mapping[str, ChoiceGroup], limits: Limits, *, none: bool = False
) -> dict[str, Tensor] | None:
    """`fan_in` edges into each node, or all where there are fewer, with an operation each; by group (edges, ops).

    None where no such code keeps the bounds. With `none` an edge may hold that, and is not kept.
    """
    return _best(op_scores, groups, limits, lambda group: group.by_target, _edges, none=none)


def top_operations_within(
    op_scores: Mapping[str, Tensor],
    groups: Mapping[str, ChoiceGroup],
    limits: Limits,
    n: int = 1,
    *,
    none: bool = False,
) -> dict[str, Tensor] | None:
    """`n` operations on every edge; otherwise as `top_edges_within`."""

    def options(group: ChoiceGroup, part: Sequence[int], allowed: Sequence[int]) -> Iterator[Entries]:
        for ops in combinations(allowed, min(n, len(allowed))):
            yield tuple((part[0], op) for op in ops)

    return _best(
        op_scores, groups, limits, lambda group: [(edge,) for edge in range(len(group.edges))], options, none=none
    )


def _edges(group: ChoiceGroup, part: Sequence[int], allowed: Sequence[int]) -> Iterator[Entries]:
    for edges in combinations(part, min(group.fan_in, len(part))):
        for ops in product(allowed, repeat=len(edges)):
            yield tuple(zip(edges, ops, strict=True))


def _best(
    op_scores: Mapping[str, Tensor],
    groups: Mapping[str, ChoiceGroup],
    limits: Limits,
    partition: Callable[[ChoiceGroup], Sequence[Sequence[int]]],
    options: Options,
    *,
    none: bool,
) -> dict[str, Tensor] | None:
    limits = limits.scaled
    steps: list[Step] = []
    offered: list[tuple[str, list[Entries]]] = []
    for name, group in groups.items():
        with np.errstate(divide="ignore"):
            strengths, table = np.log(op_scores[name].double().numpy()), limits.tables[name]
        allowed = [op for op in range(group.shape[1]) if none or op != group.null]
        for part in partition(group):
            codes = [
                code for code in options(group, part, allowed) if all(strengths[entry] > -np.inf for entry in code)
            ]
            if not codes:
                return None
            scores = np.array([sum(strengths[entry] for entry in code) for code in codes])
            costs = np.array([np.sum([table[entry] for entry in code], axis=0) for code in codes])
            steps.append(Step(scores, costs, np.ones(len(codes), bool), np.zeros(len(codes), np.int64)))
            offered.append((name, codes))
    selections = best_selections([[steps]], limits.bounds, 1)
    if not selections:
        return None
    chosen = {name: torch.zeros(group.shape) for name, group in groups.items()}
    for (name, codes), index in zip(offered, selections[0].choices, strict=True):
        for entry in codes[index]:
            chosen[name][entry] = 1.0
    return chosen
