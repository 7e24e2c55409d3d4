"""From what a search has learned to the architecture that is kept: the rules, and the exact ranking (Eq. 15)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from datanas import posterior
from datanas.codes.architecture import Architecture, Cell
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.core.settings import Section
from datanas.samplers.limits import Limits
from datanas.samplers.live import Code, best_paths, is_live, likeliest_single, live_log_share, live_paths
from datanas.samplers.vectors import Scope, Vectors, by_group
from datanas.samplers.within import likeliest_within

LOG_P = "log P"
"""The measure of a ranking by probability: the logarithm of the kept network's probability under P, at most 0."""

Ranked = list[tuple[float, tuple[int, ...]]]
GroupPath = tuple[float, tuple[Code, ...]]
Rule = Literal["likeliest", "top_operations", "top_edges", "best_sample"]


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
        architecture = replace(self.architecture, posterior={"score": score, "measure": measure, **notes})
        return Derivation(architecture, ((architecture, score), *others), measure)


class DerivationConfig(Section):
    """How the architecture is chosen that a search keeps.

    `likeliest` takes the most probable code (Eq. 15). `top_operations` takes a fixed number of operations on every edge
    (Table 9). `top_edges` is DARTS' rule: of the edges into a node those two whose likeliest operation is likeliest.
    `best_sample` samples architectures and takes that which does best in the supernet on the alpha part.
    """

    rule: Rule | None = Field(None, description="null: the method's own")

    @field_validator("rule", mode="before")
    @classmethod
    def older_name(cls, rule: object) -> object:
        """`two_inputs` is what runs and recipes of 0.1 say for `top_edges`."""
        return "top_edges" if rule == "two_inputs" else rule

    operations: int = Field(1, ge=1, description="N of `top_operations`")
    none: bool = Field(
        False,
        description="let `none` compete in `top_operations` and `top_edges`: where it wins, nothing is kept; "
        "it always competes where an edge holds one operation",
    )
    candidates: int = Field(100, ge=1, description="architectures that `best_sample` compares")
    raw: bool = Field(
        False,
        description="let `likeliest` and `best_sample` keep an architecture whose input does not reach its output",
    )


def derive_likeliest(
    probs: Mapping[str, Float[Tensor, "vectors entries"]],
    vectors: Mapping[str, Vectors],
    samples: int | Mapping[str, int],
    n: int = 1,
    *,
    space: str,
    scope: Scope,
    aggregate: str,
    raw: bool = False,
    limits: Limits | None = None,
) -> Derivation:
    """The `n` likeliest live architectures of independent probability vectors, each drawn from `samples` times.

    Where groups differ in that, the architecture notes the largest.

    An architecture is live where its network's input reaches its output, whatever the depth of the network; the
    probability is that of the network, given that it is live. Whether `none` was drawn beside other operations cannot
    be seen in a network, so both cases count. Where an edge holds exactly one operation, only codes of one count, each
    with the probability that nothing else was drawn. The margin is the difference of log-probability to the next
    architecture; infinite where there is none. The kept architecture notes the logarithm of the probability of being
    live as `log_live`; `log_prob` and it add up to the unconditional log-probability.

    Args:
        raw: of all architectures, dead ones too, with unconditional probabilities: the mode of the paper. Without it
            that is also what comes out where no live architecture has a positive probability.
        limits: what its live operations may cost; the kept architecture then notes as `free_log_prob` what the
            likeliest has without them. Its margin is found only where more than one is asked for.

    Raises:
        ConfigError: no architecture of positive probability keeps the limits.
    """
    samples = by_group(samples, vectors)
    if limits is not None:
        return _likeliest_within(
            probs, vectors, samples, n, limits, space=space, scope=scope, aggregate=aggregate, raw=raw
        )
    wanted = max(n, 2)
    ranked = _ranked(probs, vectors, samples, wanted)
    tables = [_tables(path, vectors) for _, path in ranked]
    log_live = 0.0
    if not raw:
        log_live = sum(live_log_share(probs[name], layout, samples[name]) for name, layout in vectors.items())
        if log_live == -math.inf:
            raw = True
        elif not all(is_live(table, vectors) for table in tables):
            ranked = _ranked_live(probs, vectors, samples, wanted)
            tables = [_tables(path, vectors) for _, path in ranked]
    log_probs = [min(log_prob - (0.0 if raw else log_live), 0.0) for log_prob, _ in ranked]  # rounding exceeds 0
    groups = {name: layout.group for name, layout in vectors.items()}
    architectures = [assemble(codes, groups, space=space, scope=scope, aggregate=aggregate) for codes in tables[:n]]
    margin = ranked[0][0] - ranked[1][0] if len(ranked) > 1 else float("inf")
    notes: dict[str, float | int] = {"log_prob": log_probs[0], "margin": margin, "samples": max(samples.values())}
    likeliest = replace(architectures[0], posterior=notes if raw else {**notes, "log_live": log_live})
    return Derivation(likeliest, tuple(zip((likeliest, *architectures[1:]), log_probs, strict=False)), LOG_P)


def _likeliest_within(
    probs: Mapping[str, Tensor],
    vectors: Mapping[str, Vectors],
    samples: Mapping[str, int],
    n: int,
    limits: Limits,
    *,
    space: str,
    scope: Scope,
    aggregate: str,
    raw: bool,
) -> Derivation:
    log_live = (
        0.0 if raw else sum(live_log_share(probs[name], layout, samples[name]) for name, layout in vectors.items())
    )
    ranked = likeliest_within(probs, vectors, samples, limits, n, raw=raw) if log_live > -math.inf else []
    if not ranked:
        raise ConfigError("budget: no architecture that the search gives any probability is within it")
    free = derive_likeliest(probs, vectors, samples, 1, space=space, scope=scope, aggregate=aggregate, raw=raw)
    groups = {name: layout.group for name, layout in vectors.items()}
    architectures = [
        assemble(_tables(path, vectors), groups, space=space, scope=scope, aggregate=aggregate)
        for _, path in ranked[:n]
    ]
    log_probs = [min(log_prob - log_live, 0.0) for log_prob, _ in ranked]
    notes: dict[str, float | int] = {
        "log_prob": log_probs[0],
        "samples": max(samples.values()),
        "free_log_prob": free.ranking[0][1],
    }
    if len(ranked) > 1:
        notes["margin"] = ranked[0][0] - ranked[1][0]
    likeliest = replace(architectures[0], posterior=notes if raw else {**notes, "log_live": log_live})
    return Derivation(likeliest, tuple(zip((likeliest, *architectures[1:]), log_probs, strict=False)), LOG_P)


def _ranked(
    probs: Mapping[str, Tensor], vectors: Mapping[str, Vectors], samples: Mapping[str, int], n: int
) -> list[GroupPath]:
    """The `n` likeliest codes of all vectors of all groups, live or not."""
    ranked: Ranked = [(0.0, ())]
    choices: list[list[Code]] = []
    for name, layout in vectors.items():
        for row in layout.rows:
            entries = layout.mask[row]
            given, indices = probs[name][row, entries].double(), entries.nonzero().squeeze(1)
            if layout.group.single:
                codes, log_probs = likeliest_single(given, samples[name], n)
            else:
                codes, log_probs = posterior.top(given, samples[name], n, null=layout.null)
            choices.append([tuple(indices[code > 0].tolist()) for code in codes])
            ranked = _best_pairs(ranked, log_probs.tolist(), n)
    return [(log_prob, tuple(choices[i][rank] for i, rank in enumerate(ranks))) for log_prob, ranks in ranked]


def _ranked_live(
    probs: Mapping[str, Tensor], vectors: Mapping[str, Vectors], samples: Mapping[str, int], n: int
) -> list[GroupPath]:
    """The `n` likeliest codes of all vectors of all groups whose every group is live."""
    ranked: list[GroupPath] = [(0.0, ())]
    for name, layout in vectors.items():
        paths = live_paths(probs[name], layout, samples[name], n)
        pairs = ((first + second, (*begun, *codes)) for (first, begun), (second, codes) in product(ranked, paths))
        ranked = best_paths(pairs, n)
    return ranked


def _tables(codes: Sequence[Code], vectors: Mapping[str, Vectors]) -> dict[str, Tensor]:
    """The codes of the vectors of all groups as a table for each group."""
    left, tables = list(codes), {}
    for name, layout in vectors.items():
        rows = torch.zeros(layout.shape)
        for row in layout.rows:
            rows[row, list(left.pop(0))] = 1.0
        tables[name] = layout.to_edges(rows)
    return tables


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
    op_scores: Float[Tensor, "edges ops"], group: ChoiceGroup, n: int = 1, *, none: bool = False
) -> Float[Tensor, "edges ops"]:
    """The code of the `n` strongest operations on every edge (Table 9).

    With `none` the operation `none` takes a place among them, and nothing runs in it.
    """
    allowed = _allowed(op_scores, group, none)
    count = min(n, int(allowed.isfinite().sum(dim=1).min()))
    chosen = allowed.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(op_scores).scatter_(1, chosen, 1.0)


def top_edges(
    op_scores: Float[Tensor, "edges ops"], group: ChoiceGroup, *, none: bool = False
) -> Float[Tensor, "edges ops"]:
    """The code that DARTS keeps (Liu, Simonyan and Yang, ICLR 2019, Section 2.4).

    Each edge counts as much as its strongest operation; of the edges into a node the strongest `group.fan_in` are kept,
    with that operation. `none` is passed over, or with `none` an edge on which it is the strongest is not kept.
    """
    allowed = _allowed(op_scores, group, none)
    strength, operation = allowed.max(dim=1)
    if none and group.null is not None:
        strength = strength.masked_fill(operation == group.null, -torch.inf)
    code = torch.zeros_like(op_scores)
    for part in group.by_target:
        edges = torch.tensor(part)
        order = edges[strength[edges].argsort(descending=True, stable=True)][: group.fan_in]
        chosen = order[strength[order].isfinite()]
        code[chosen, operation[chosen]] = 1.0
    return code


def _allowed(op_scores: Tensor, group: ChoiceGroup, none: bool) -> Tensor:
    """The strengths, with -inf where `none` is passed over."""
    if none or group.null is None:
        return op_scores
    column = torch.arange(op_scores.shape[1]) == group.null
    return op_scores.masked_fill(column, -torch.inf)
