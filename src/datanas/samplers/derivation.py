"""From probability vectors to the likeliest architectures, exactly (Eq. 15)."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datanas import posterior
from datanas.architecture import Architecture, Cell
from datanas.samplers.base import Derivation, Scope, Vectors

Ranked = list[tuple[float, tuple[int, ...]]]


def derive_likeliest(
    probs: Mapping[str, Float[Tensor, "vectors entries"]],
    vectors: Mapping[str, Vectors],
    samples: int,
    n: int = 1,
    *,
    space: str,
    scope: Scope,
    aggregate: str,
) -> Derivation:
    """The `n` likeliest architectures of independent probability vectors, each drawn from `samples` times.

    The probability is that of the network: whether `none` was drawn beside other operations cannot be seen in it, so
    both cases count. The margin is the difference of log-probability to the next architecture; infinite where there is
    none.
    """
    wanted = max(n, 2)
    choices: list[Tensor] = []
    ranked: Ranked = [(0.0, ())]
    for name, layout in vectors.items():
        for row in range(layout.shape[0]):
            entries = layout.mask[row]
            codes, log_probs = posterior.top(probs[name][row, entries].double(), samples, wanted, null=layout.null)
            full = torch.zeros(len(codes), layout.shape[1])
            full[:, entries] = codes.float()
            choices.append(full)
            ranked = _best_pairs(ranked, log_probs.tolist(), wanted)
    margin = ranked[0][0] - ranked[1][0] if len(ranked) > 1 else float("inf")
    found = [
        (_assemble([choices[i][rank] for i, rank in enumerate(ranks)], vectors, space, scope, aggregate), log_prob)
        for log_prob, ranks in ranked[:n]
    ]
    best, log_prob = found[0]
    kept = replace(best, posterior={"log_prob": log_prob, "margin": margin, "samples": samples})
    return Derivation(kept, ((kept, log_prob), *found[1:]))


def _best_pairs(ranked: Ranked, log_probs: list[float], n: int) -> Ranked:
    """The `n` best sums of an element of each list; both are sorted, best first."""
    pairs = ((first[0] + second, (*first[1], rank)) for first, (rank, second) in product(ranked, enumerate(log_probs)))
    return heapq.nsmallest(n, pairs, key=lambda pair: (-pair[0], pair[1]))


def _assemble(
    rows: list[Tensor], vectors: Mapping[str, Vectors], space: str, scope: Scope, aggregate: str
) -> Architecture:
    cells = {}
    for name, layout in vectors.items():
        count = layout.shape[0]
        code = layout.to_edges(torch.stack(rows[:count]))
        rows = rows[count:]
        group = layout.group
        cells[name] = Cell(
            group.primitives, group.edges, group.outputs, code.numpy().astype(np.uint8), inputs=group.inputs
        )
    return Architecture(cells, space=space, scope=scope, aggregate=aggregate)
