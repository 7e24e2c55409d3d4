"""The likeliest codes of a choice group among those that let its input through to its output, exactly.

A group is live where a path of open edges leads from an input to an output; a stack of cells whose groups are all live
is live whatever its depth (`datanas.codes.liveness.lets_through`). So liveness is a matter of each group alone, and P
of several groups conditional on it is the product of their own.

The search goes through the nodes in order. All that the rest of a cell has to know of its first part is whether the
input has reached an output and, before that, which nodes it reaches; for each such state the n likeliest beginnings are
kept. Whether a vector opens an edge that leaves a reached node splits its codes in two. Both halves have their exact
ranking (`posterior.top`) and their probability in closed form: with q the probability that one draw takes an operation
of these edges, (1 - q)^M that none of M does.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datanas import posterior
from datanas.draw_polynomial import TIE
from datanas.samplers.vectors import Vectors

Code = tuple[int, ...]
"""The entries of a vector that are chosen, in rising order."""
Choice = tuple[float, Code]
"""Log-probability and code of a vector."""
Path = tuple[float, tuple[Code, ...]]
"""Log-probability of the codes of vectors in order, and these."""
Reached = frozenset[int]
"""The nodes that the input reaches."""
LIVE: Reached = frozenset()
"""Stands for all sets with an output; no other is empty. That further edges leave these nodes makes no difference."""


def live_log_share(probs: Float[Tensor, "vectors entries"], layout: Vectors, samples: int) -> float:
    """The log-probability that a group is live.

    Where an edge holds one operation, the sum of the probabilities of all live codes of one operation an edge, which
    with all others would be less than 1.
    """
    if layout.group.null is None and not layout.group.single:
        return 0.0  # every node has an operation

    @cache
    def shares(row: int, sources: Reached) -> tuple[float, float]:
        return _shares(probs[row], layout, row, sources, samples)

    states: dict[Reached, float] = {frozenset(range(layout.group.inputs)): 0.0}
    for rows in layout.by_target:
        after: dict[Reached, list[float]] = {}
        for reached, log_share in states.items():
            halves = {False: log_share, True: -math.inf}
            for row in rows:
                opened, closed = shares(row, reached & layout.sources(row))
                begun, later = halves[False] + opened, halves[True] + float(np.logaddexp(opened, closed))
                halves = {False: halves[False] + closed, True: float(np.logaddexp(begun, later))}
            for is_open, value in halves.items():
                after.setdefault(_state(reached, layout.target(rows[0]), is_open, layout), []).append(value)
        states = {reached: float(np.logaddexp.reduce(values)) for reached, values in after.items()}
    return min(states[LIVE], 0.0)


def live_paths(probs: Float[Tensor, "vectors entries"], layout: Vectors, samples: int, n: int) -> list[Path]:
    """The n likeliest live codes of a group, each with its log-probability, not conditional on being live.

    The codes of a path stand in the order of `Vectors.rows`.

    Args:
        probs: of each vector; padding has probability 0.
        layout: what the vectors' entries stand for.
        samples: M.
        n: how many.
    """

    @cache
    def choices(row: int, sources: Reached) -> tuple[list[Choice], list[Choice]]:
        return _choices(probs[row], layout, row, sources, samples, n)

    states: dict[Reached, list[Path]] = {frozenset(range(layout.group.inputs)): [(0.0, ())]}
    for rows in layout.by_target:
        after: dict[Reached, list[Path]] = {}
        for reached, paths in states.items():
            halves: dict[bool, list[Path]] = {False: paths, True: []}
            for row in rows:
                opened, closed = choices(row, reached & layout.sources(row))
                into = [*_joined(halves[False], opened), *_joined(halves[True], [*opened, *closed])]
                halves = {False: best_paths(_joined(halves[False], closed), n), True: best_paths(into, n)}
            for is_open, joined in halves.items():
                after.setdefault(_state(reached, layout.target(rows[0]), is_open, layout), []).extend(joined)
        states = {reached: best_paths(joined, n) for reached, joined in after.items()}
    return states[LIVE]


def _state(reached: Reached, target: int, is_open: bool, layout: Vectors) -> Reached:
    """What is reached once a node has been dealt with; `LIVE` from the first output on."""
    if reached == LIVE or not is_open:
        return reached
    return LIVE if target in layout.group.outputs else reached | {target}


def best_paths(paths: Iterable[Path], n: int) -> list[Path]:
    """The n likeliest, in order; of equally likely ones those with fewer operations in the first vectors."""
    return heapq.nsmallest(n, paths, key=_order)


def _order(path: Path) -> tuple[float, list[tuple[int, Code]]]:
    log_prob, codes = path
    return -round(log_prob / TIE), [(len(code), code) for code in codes]


def _joined(paths: list[Path], choices: list[Choice]) -> Iterator[Path]:
    for log_prob, codes in paths:
        for further, code in choices:
            yield log_prob + further, (*codes, code)


def _shares(probs: Tensor, layout: Vectors, row: int, reached: Reached, samples: int) -> tuple[float, float]:
    """Log-probabilities that a vector opens an edge that leaves a reached node, and that it does not."""
    given, wanted = probs.double(), layout.leaving(row, reached)
    if layout.group.single:
        return tuple(float((given[part] ** samples).sum().log()) for part in (wanted, ~wanted))  # type: ignore[return-value]
    inside, outside = (float(given[part].sum()) for part in (wanted, ~wanted))
    inside = inside / (inside + outside)
    closed = samples * math.log1p(-inside) if inside < 1 else -math.inf
    return (math.log(-math.expm1(closed)) if closed < 0 else -math.inf), closed


def _choices(
    probs: Tensor, layout: Vectors, row: int, reached: Reached, samples: int, n: int
) -> tuple[list[Choice], list[Choice]]:
    """The n likeliest codes of a vector that open an edge that leaves a reached node, and of those that do not."""
    entries, wanted = layout.mask[row], layout.leaving(row, reached)
    given = probs[entries].double()
    indices = entries.nonzero().squeeze(1).tolist()
    inside = wanted[entries]
    if layout.group.single:
        halves = [likeliest_single(given * part, samples, n) for part in (inside, ~inside)]
    else:
        halves = [posterior.top(given, samples, n, null=layout.null, any_of=inside)]
        outside = given * ~inside
        nothing = given.new_zeros(0, len(given)), given[:0]
        halves.append(posterior.top(outside, samples, n, null=layout.null) if bool(outside.any()) else nothing)
    opened, closed = (
        [
            (log_prob, tuple(indices[index] for index in code.nonzero().squeeze(1).tolist()))
            for code, log_prob in zip(codes, log_probs.tolist(), strict=True)
        ]
        for codes, log_probs in halves
    )
    return opened, closed


def likeliest_single(probs: Float[Tensor, " entries"], samples: int, n: int) -> tuple[Tensor, Tensor]:
    """The `n` likeliest codes of one operation, and their log-probabilities: p_k^M."""
    order = probs.argsort(descending=True, stable=True)
    order = order[probs[order] > 0][:n]
    codes = torch.zeros(len(order), len(probs))
    codes[torch.arange(len(order)), order] = 1.0
    return codes, samples * probs[order].log()


def is_live(tables: Mapping[str, Tensor], vectors: Mapping[str, Vectors]) -> bool:
    """Whether every group of these codes, by group, shape (edges, ops), is live."""
    return all(layout.group.lets_through(tables[name]) for name, layout in vectors.items())
