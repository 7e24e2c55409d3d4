"""Where alpha starts, if it is not to start flat: a linear model of how scores of cells depend on their operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from datanas.core.settings import Section
from datanas.samplers.vectors import Vectors

Code = Float[Tensor, "edges ops"]
_RIDGE = 1.0  # in units of the variance of a score


class PriorConfig(Section):
    """Alpha starts from training-free scores of random cells (`datanas.engine.untrained`).

    What it does and what it does not: docs/default.md.
    """

    children: int | None = Field(
        None,
        ge=0,
        description="random cells that are scored; 0: alpha starts flat; null: 128 in spaces where that was measured "
        "to help, but 0 where a bound on multiply-adds gives every cell its own width",
    )
    strength: float = Field(1.0, gt=0, description="log-odds for one standard deviation of the score")


def prior_logits(
    codes: Sequence[Mapping[str, Code]], scores: Sequence[float], vectors: Mapping[str, Vectors]
) -> dict[str, Code]:
    """What each operation adds to a cell's score, in its standard deviations: the solution of a ridge regression.

    The model is additive: score = sum over the operations of a cell of u[op] + v[edge, op], where both are penalised
    alike, so that an operation that few cells have on this edge is judged by what it does on the others. The sum is
    returned, of mean 0 over the operations of each vector; `none` has 0 where edges may hold several operations.

    Args:
        codes: of each cell, by group.
        scores: of each cell, the higher the better; finite.
        vectors: the sampler's, by group.

    Returns:
        By group; all 0 where every score is the same.
    """
    parts = {name: torch.stack([code[name].double() for code in codes]) for name in vectors}
    kernel = torch.zeros(len(codes), len(codes), dtype=torch.double)
    for part in parts.values():
        kernel += torch.einsum("aeo,beo->ab", part, part) + part.sum(dim=1) @ part.sum(dim=1).T
    y = torch.tensor(scores, dtype=torch.double)
    y = y - y.mean()
    deviation = y.std(correction=0)
    if not deviation > 0:
        return {name: torch.zeros(layout.group.shape) for name, layout in vectors.items()}
    weights = torch.linalg.solve(kernel + _RIDGE * torch.eye(len(codes), dtype=torch.double), y / deviation)
    return {name: _centred(_effects(part, weights), vectors[name]).float() for name, part in parts.items()}


def _effects(codes: Float[Tensor, "cells edges ops"], weights: Float[Tensor, " cells"]) -> Code:
    """u[op] + v[edge, op] from the weights of the dual problem."""
    on_edge = torch.einsum("c,ceo->eo", weights, codes)
    return on_edge + on_edge.sum(dim=0)


def _centred(effects: Code, layout: Vectors) -> Code:
    """Effects less their mean over each vector, `none` left out where it stands for no operation."""
    counts = torch.ones_like(effects)
    group = layout.group
    if group.null is not None and not group.single:
        counts[:, group.null] = 0
    centred = effects.clone()
    for members in layout.members:
        edges = list(members)
        centred[edges] -= (effects[edges] * counts[edges]).sum() / counts[edges].sum()
    return centred * counts
