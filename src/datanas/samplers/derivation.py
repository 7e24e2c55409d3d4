"""From what a search has learned to the architecture that is kept: the rules, and the exact ranking (Eq. 15)."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from datanas import posterior
from datanas.architecture import Architecture, Cell
from datanas.config import Section
from datanas.samplers.vectors import Scope, Vectors
from datanas.spaces.base import ChoiceGroup

LOG_P = "log P"
"""The measure of a ranking by probability: the logarithm of the kept network's probability under P, at most 0."""

Ranked = list[tuple[float, tuple[int, ...]]]
Rule = Literal["likeliest", "top_operations", "two_inputs", "best_sample"]


@dataclass(frozen=True)
class Derivation:
    """What a search keeps.

    Attributes:
        architecture: the one that is kept, with its posterior probability and margin.
        ranking: the best architectures, each with the number that it is ranked by; the first is `architecture`.
        measure: what these numbers are, such as "log P"; None where they mean nothing and are not to be shown.
    """

    architecture: Architecture
    ranking: tuple[tuple[Architecture, float], ...]
    measure: str | None = None

    def ranked_by(self, measure: str, **notes: float) -> Derivation:
        """The same ranking by numbers that are no log P; the kept architecture notes its own, and `notes`."""
        (_, score), *others = self.ranking
        kept = replace(self.architecture, posterior={"score": score, "measure": measure, **notes})
        return Derivation(kept, ((kept, score), *others), measure)


class DerivationConfig(Section):
    """How the architecture is chosen that a search keeps.

    `likeliest` takes the most probable code (Eq. 15). `top_operations` takes a fixed number of operations on every edge
    (Table 9). `two_inputs` is DARTS' rule: of the edges into a node those two whose likeliest operation is likeliest.
    `best_sample` samples architectures and takes that which does best in the supernet on the alpha part.
    """

    rule: Rule | None = Field(None, description="null: the method's own")
    operations: int = Field(1, ge=1, description="N of `top_operations`")
    none: bool = Field(
        False,
        description="let `none` compete in `top_operations` and `two_inputs`: where it wins, nothing is kept; "
        "it always competes where an edge holds one operation",
    )
    candidates: int = Field(100, ge=1, description="architectures that `best_sample` compares")


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
    both cases count. Where an edge holds exactly one operation, only codes of one count, each with the probability
    that nothing else was drawn. The margin is the difference of log-probability to the next architecture; infinite
    where there is none.
    """
    wanted = max(n, 2)
    choices: list[Tensor] = []
    ranked: Ranked = [(0.0, ())]
    for name, layout in vectors.items():
        for row in range(layout.shape[0]):
            entries = layout.mask[row]
            found = probs[name][row, entries].double()
            if layout.group.single:
                codes, log_probs = _single(found, samples, wanted)
            else:
                codes, log_probs = posterior.top(found, samples, wanted, null=layout.null)
            full = torch.zeros(len(codes), layout.shape[1])
            full[:, entries] = codes.to(full.dtype)
            choices.append(full)
            ranked = _best_pairs(ranked, log_probs.tolist(), wanted)
    margin = ranked[0][0] - ranked[1][0] if len(ranked) > 1 else float("inf")
    found_architectures = []
    for log_prob, ranks in ranked[:n]:
        rows = [choices[i][rank] for i, rank in enumerate(ranks)]
        codes_by_group = {}
        for name, layout in vectors.items():
            count = layout.shape[0]
            codes_by_group[name] = layout.to_edges(torch.stack(rows[:count]))
            rows = rows[count:]
        groups = {name: layout.group for name, layout in vectors.items()}
        built = assemble(codes_by_group, groups, space=space, scope=scope, aggregate=aggregate)
        found_architectures.append((built, min(log_prob, 0.0)))  # rounding alone takes a certain one above 0
    best, log_prob = found_architectures[0]
    kept = replace(best, posterior={"log_prob": log_prob, "margin": margin, "samples": samples})
    return Derivation(kept, ((kept, log_prob), *found_architectures[1:]), LOG_P)


def _single(probs: Float[Tensor, " entries"], samples: int, n: int) -> tuple[Tensor, Tensor]:
    """The `n` likeliest codes of one operation, and their log-probabilities: p_k^M."""
    order = probs.argsort(descending=True, stable=True)
    order = order[probs[order] > 0][:n]
    codes = torch.zeros(len(order), len(probs))
    codes[torch.arange(len(order)), order] = 1.0
    return codes, samples * probs[order].log()


def _best_pairs(ranked: Ranked, log_probs: list[float], n: int) -> Ranked:
    """The `n` best sums of an element of each list; both are sorted, best first."""
    pairs = ((first[0] + second, (*first[1], rank)) for first, (rank, second) in product(ranked, enumerate(log_probs)))
    return heapq.nsmallest(n, pairs, key=lambda pair: (-pair[0], pair[1]))


def assemble(
    codes: Mapping[str, Float[Tensor, "edges ops"]],
    groups: Mapping[str, ChoiceGroup],
    *,
    space: str,
    scope: Scope = "edge",
    aggregate: str = "sum",
) -> Architecture:
    """The architecture with these codes, by choice group; of one operation an edge it is a plain sum."""
    if any(group.single for group in groups.values()):
        scope, aggregate = "edge", "sum"
    cells = {
        name: Cell(
            group.primitives,
            group.edges,
            group.outputs,
            codes[name].detach().numpy().astype(np.uint8),
            inputs=group.inputs,
        )
        for name, group in groups.items()
    }
    return Architecture(cells, space=space, scope=scope, aggregate=aggregate)


def top_operations(
    strengths: Float[Tensor, "edges ops"], group: ChoiceGroup, n: int = 1, *, none: bool = False
) -> Float[Tensor, "edges ops"]:
    """The code of the `n` strongest operations on every edge (Table 9).

    With `none` the operation `none` takes a place among them, and nothing runs in it.
    """
    allowed = _allowed(strengths, group, none)
    count = min(n, int(allowed.isfinite().sum(dim=1).min()))
    chosen = allowed.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(strengths).scatter_(1, chosen, 1.0)


def two_inputs(
    strengths: Float[Tensor, "edges ops"], group: ChoiceGroup, *, none: bool = False
) -> Float[Tensor, "edges ops"]:
    """The code that DARTS keeps (Liu, Simonyan and Yang, ICLR 2019, Section 2.4).

    Each edge counts as much as its strongest operation; of the edges into a node the strongest `group.fan_in` are kept,
    with that operation. `none` is passed over, or with `none` an edge on which it is the strongest is not kept.
    """
    allowed = _allowed(strengths, group, none)
    strength, operation = allowed.max(dim=1)
    if none and group.null is not None:
        strength = strength.masked_fill(operation == group.null, -torch.inf)
    code = torch.zeros_like(strengths)
    for part in group.by_target:
        edges = torch.tensor(part)
        order = edges[strength[edges].argsort(descending=True, stable=True)][: group.fan_in]
        kept = order[strength[order].isfinite()]
        code[kept, operation[kept]] = 1.0
    return code


def _allowed(strengths: Tensor, group: ChoiceGroup, none: bool) -> Tensor:
    """The strengths, with -inf where `none` is passed over."""
    if none or group.null is None:
        return strengths
    column = torch.arange(strengths.shape[1]) == group.null
    return strengths.masked_fill(column, -torch.inf)
