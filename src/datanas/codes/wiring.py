"""What a cell computes, whatever its nodes are called. Plain data, no torch.

A node that one identity enters is the node before it under another name, and nodes may stand in any order, so many
codes make the same network. Two operations of one kind on the same values stay two, where NAS-Bench-201's text for such
cells takes them for one: each has weights of its own. Of that benchmark's 15,625 codes 5,425 networks are different.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datanas.codes.cell import Cell
from datanas.codes.liveness import live_cell

_Sum = dict[int, float]
"""A value as a sum: of each operation, by its number, with the factor that it enters with. Below 0 stand the inputs."""


def wiring_key(cell: Cell, factors: NDArray[np.floating[Any]], identities: Collection[str]) -> tuple[Any, ...]:
    """What two cells share that compute the same from the same weights, up to the order of their sums.

    Args:
        cell: of which only what is live counts.
        factors: (edges, ops), what each operation is multiplied with as it enters its node.
        identities: primitives that pass their input on as it is.

    Returns:
        What each output is a sum of, operations written out down to the inputs, and the same of every operation.
    """
    live = live_cell(cell)
    values: dict[int, _Sum] = {node: {-1 - node: 1.0} for node in range(cell.inputs)}
    operations: list[tuple[str, _Sum]] = []
    for edge in sorted(range(len(cell.edges)), key=lambda edge: cell.edges[edge][::-1]):
        source, target = cell.edges[edge]
        total = values.setdefault(target, {})
        for op in np.flatnonzero(live.code[edge]):
            factor, entering = float(factors[edge, op]), values.get(source, {})
            if cell.primitives[op] not in identities:
                operations.append((cell.primitives[op], entering))
                entering = {len(operations) - 1: 1.0}
            for term, weight in entering.items():
                total[term] = total.get(term, 0.0) + weight * factor
    written: list[tuple[Any, ...]] = []
    for name, entering in operations:
        written.append((name, _written(entering, written)))
    return tuple(_written(values[node], written) for node in live.outputs), tuple(sorted(written, key=repr))


def _written(value: _Sum, operations: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """A sum with its operations written out, in an order that does not depend on their numbers."""
    terms = ((operations[term] if term >= 0 else ("input", -1 - term), factor) for term, factor in value.items())
    return tuple(sorted(terms, key=repr))
