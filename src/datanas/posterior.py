"""The distribution of the codes that Ensemble Gumbel-Softmax draws, in closed form (DATA, TPAMI 2020, Eq. 14-15).

M draws with replacement from p give the set S of the operations that were drawn. Eq. 15, with t_k >= 1 for k in S and
t_k = 0 elsewhere, is

    P(S) = M! [x^M] prod_{k in S} (exp(p_k x) - 1),

where [x^M] takes the coefficient of x^M. All terms are positive, so it is evaluated in log space without cancellation.

`null`: in a network the operation `none` cannot be seen, so two codes that differ only there are one network. With
`null=i` the functions that take it speak of networks. The factor of entry i is exp(p_i x), whether it was drawn or
not; its bit is ignored in codes that are given and is 0 in codes that are returned. Sizes run from 0 to min(M, K - 1),
and the empty code has probability p_i^M.

The entries of `probs` are not checked to sum to 1; where they do not, the same polynomials are evaluated.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from datanas.draw_polynomial import arrange, log_of, prefix_log_probs, round_to_ties
from datanas.egs import check_samples, full_precision


def inclusion_probs(probs: Float[Tensor, "*batch ops"], samples: int) -> Float[Tensor, "*batch ops"]:
    """The probability that each operation is in the code (DATA, TPAMI 2020, Eq. 14).

    P(b_k = 1) = 1 - (1 - p_k)^M = p_k sum_{j=0..M-1} (1 - p_k)^j; the sum loses no digits at small p_k.

    Args:
        probs: p, shape (..., K).
        samples: the number of draws M.

    Returns:
        Shape (..., K), in [0, 1], increasing in p_k. Differentiable, also at p_k = 0 and 1.

    Raises:
        ValueError: `samples` is not an integer of at least 1, or `probs` has no last dimension or an empty one.

    >>> inclusion_probs(torch.tensor([0.5, 0.5, 0.0]), samples=2)
    tensor([0.7500, 0.7500, 0.0000])
    """
    _check(probs, samples)
    probs = full_precision(probs)
    exponents = torch.arange(samples, device=probs.device)
    included = probs * ((1 - probs).unsqueeze(-1) ** exponents).sum(-1)
    # Rounding can pass 1 by an ulp; the value is cut off, the slope is not.
    return included - (included.detach() - 1).clamp_min(0)


def expected_cost(
    probs: Float[Tensor, "*#batch ops"], samples: int, costs: Shaped[Tensor, "*#batch ops"]
) -> Float[Tensor, "*batch"]:
    """The expectation of an additive cost of the code (from DATA, TPAMI 2020, Eq. 14).

    E[sum_k c_k b_k] = sum_k c_k (1 - (1 - p_k)^M).

    Args:
        probs: p, shape (..., K).
        samples: the number of draws M.
        costs: c, shape (..., K), for instance parameters, multiply-adds or a latency table; 0 for `none`. The leading
            dimensions broadcast against those of `probs`.

    Returns:
        Shape (...), exact and differentiable.

    Raises:
        ValueError: `samples` is not an integer of at least 1, or the last dimensions are empty or differ.

    >>> parameters = torch.tensor([0.0, 1000.0])
    >>> expected_cost(torch.tensor([0.5, 0.5]), samples=2, costs=parameters)
    tensor(750.)
    """
    _check(probs, samples)
    _check_ops("costs", costs, probs)
    included = inclusion_probs(probs, samples)
    return (included * costs.to(included)).sum(-1)


def log_prob(
    code: Shaped[Tensor, "*#batch ops"], probs: Float[Tensor, "*#batch ops"], samples: int, *, null: int | None = None
) -> Float[Tensor, "*batch"]:
    """The log-probability of a code (DATA, TPAMI 2020, Eq. 15; see the formula of this module).

    Args:
        code: shape (..., K); an entry above 0 is chosen.
        probs: p, shape (..., K). The leading dimensions broadcast against those of `code`.
        samples: the number of draws M.
        null: index of the operation that stands for "none", see the head of this module.

    Returns:
        Shape (...), at most 0 up to rounding; -inf for codes that cannot be drawn: none or more than M chosen, or one
        with p_k = 0. Differentiable in `probs`; the gradient of an impossible code, and that at an entry with p_k = 0,
        is given as 0.

    Raises:
        ValueError: `samples` is not an integer of at least 1, the last dimensions are empty or differ, or `null` is out
            of range.

    >>> code = torch.tensor([1, 1])
    >>> log_prob(code, torch.tensor([0.5, 0.5]), samples=2).exp()  # the two draws differ
    tensor(0.5000)
    """
    _check(probs, samples, null)
    _check_ops("code", code, probs)
    probs = full_precision(probs)
    visible = torch.ones_like(probs, dtype=torch.bool)
    if null is not None:
        visible[..., null] = False
    chosen = (code > 0) & visible
    log_probs = log_of(probs).expand_as(chosen)
    log_null = None if null is None else log_probs[..., null]

    members_first = chosen.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    by_size = prefix_log_probs(log_probs.gather(-1, members_first[..., :samples]), log_null, samples)
    largest = by_size.shape[-1] - 1
    size = chosen.sum(-1)
    by_code = by_size.gather(-1, size.clamp_max(largest).unsqueeze(-1)).squeeze(-1)
    return by_code.masked_fill(size > largest, -math.inf)


@torch.no_grad()
def most_probable(
    probs: Float[Tensor, "*batch ops"], samples: int, *, null: int | None = None
) -> Float[Tensor, "*batch ops"]:
    """The likeliest code of each vector, exactly (from DATA, TPAMI 2020, Eq. 15).

    P(S) increases in every p_k with k in S. So the best set of a size holds the largest p_k, and only sizes compete.
    Of equally likely codes the smaller wins, then the one with the lower indices. Evaluated in float64 on the CPU, so
    the answer does not depend on the device.

    Args:
        probs: p, shape (..., K).
        samples: the number of draws M.
        null: index of the operation that stands for "none", see the head of this module.

    Returns:
        Shape (..., K), 0 or 1, of the type and on the device of `probs`.

    Raises:
        ValueError: `samples` is not an integer of at least 1, `probs` has no last dimension or an empty one or holds a
            vector that is negative somewhere, not finite, or all 0, or `null` is out of range.

    >>> most_probable(torch.tensor([0.5, 0.3, 0.2]), samples=2)
    tensor([1., 1., 0.])
    """
    _check(probs, samples, null)
    order, log_probs, log_null = arrange(probs, null)
    order = order[..., :samples]
    by_size = round_to_ties(prefix_log_probs(log_probs[..., :samples], log_null, samples))
    size = by_size.argmax(-1, keepdim=True)
    chosen = torch.arange(order.shape[-1], device=order.device) < size
    return log_probs.new_zeros(probs.shape).scatter_(-1, order, chosen.double()).to(probs)


@torch.no_grad()
def top(
    probs: Float[Tensor, " ops"],
    samples: int,
    n: int,
    *,
    null: int | None = None,
    any_of: Bool[Tensor, " ops"] | None = None,
) -> tuple[Float[Tensor, "n ops"], Float[Tensor, " n"]]:
    """The n likeliest codes of one vector, exactly and in order (from DATA, TPAMI 2020, Eq. 15).

    Best-first search. With the operations sorted by p, replacing a member of S by the next less probable operation
    cannot raise P(S), and every set of a size is reached by such steps from the set of the largest p_k. Of equally
    likely codes the smaller comes first, then the one with the lower indices; log-probabilities less than 6e-11 apart
    may count as equal. Evaluated in float64 on the CPU, so the answer does not depend on the device.

    Args:
        probs: p, shape (K,).
        samples: the number of draws M.
        n: how many codes.
        null: index of the operation that stands for "none", see the head of this module.
        any_of: shape (K,); only codes that hold at least one of these operations.

    Returns:
        codes, shape (n, K), 0 or 1, and their log-probabilities, shape (n,), falling, without gradient (`log_prob` has
        one). Fewer rows if fewer codes have positive probability.

    Raises:
        ValueError: `samples` or `n` is not an integer of at least 1, `probs` is not of shape (K,) or is negative
            somewhere, not finite, or all 0, `any_of` is of another shape, or `null` is out of range.

    >>> codes, log_probs = top(torch.tensor([0.5, 0.3, 0.2]), samples=2, n=2)
    >>> codes
    tensor([[1., 1., 0.],
            [1., 0., 0.]])
    """
    _check(probs, samples, null)
    _check_count(n)
    if probs.ndim != 1:
        raise ValueError(f"probs must have shape (K,), got {tuple(probs.shape)}")
    if any_of is not None and any_of.shape != probs.shape:
        raise ValueError(f"any_of must have the shape {tuple(probs.shape)} of probs, got {tuple(any_of.shape)}")
    order, log_probs, log_null = arrange(probs, null)
    index = order.tolist()
    regions = _regions(index, None if any_of is None else any_of.tolist())
    waiting: list[tuple[float, int, list[int], int, tuple[int, ...], float]] = []
    seen: set[tuple[int, tuple[int, ...]]] = set()

    def add(sets: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """Queue sets of one size, each the number of its region and the positions in `free` of its members."""
        if not sets:
            return
        seen.update(sets)
        ranks = [regions[number].members(positions) for number, positions in sets]
        members = log_probs[order.new_tensor(ranks)]
        values = prefix_log_probs(members, None if log_null is None else log_null.expand(len(sets)), samples)[:, -1]
        rounded = round_to_ties(values).tolist()
        for each, (number, positions), value, tie in zip(ranks, sets, values.tolist(), rounded, strict=True):
            if value > -math.inf:
                heapq.heappush(waiting, (-tie, len(each), sorted(index[r] for r in each), number, positions, value))

    for size in range(min(samples, len(index)) + 1):
        counts = [(number, size - len(region.held), len(region.free)) for number, region in enumerate(regions)]
        add([(number, tuple(range(count))) for number, count, most in counts if 0 <= count <= most])
    index_sets: list[list[int]] = []
    values: list[float] = []
    while waiting and len(index_sets) < n:
        _, _, indices, number, positions, value = heapq.heappop(waiting)
        index_sets.append(indices)
        values.append(value)
        steps = (
            (number, (*positions[:i], position + 1, *positions[i + 1 :]))
            for i, position in enumerate(positions)
            if position + 1 < len(regions[number].free) and position + 1 not in positions
        )
        add([step for step in steps if step not in seen])

    codes = log_probs.new_zeros(len(index_sets), probs.shape[0])
    for row, indices in zip(codes, index_sets, strict=True):
        row[indices] = 1.0
    # Ties differ by rounding errors, in an order that says nothing.
    log_probs_found = log_probs.new_tensor(values).cummin(0).values
    return codes.to(probs), full_precision(log_probs_found.to(probs))


@dataclass(frozen=True)
class _Region:
    """The sets of ranks that hold all of `held` and any of `free`, both in rising order."""

    held: tuple[int, ...]
    free: tuple[int, ...]

    def members(self, positions: Sequence[int]) -> list[int]:
        return sorted((*self.held, *(self.free[position] for position in positions)))


def _regions(index: Sequence[int], wanted: Sequence[bool] | None) -> list[_Region]:
    """All sets of ranks, or those that hold a wanted operation: a region for the likeliest one that they hold."""
    ranks = range(len(index))
    if wanted is None:
        return [_Region((), tuple(ranks))]
    return [
        _Region((first,), tuple(rank for rank in ranks if rank > first or not wanted[index[rank]]))
        for first in ranks
        if wanted[index[first]]
    ]


def sample(
    probs: Float[Tensor, "*batch ops"], samples: int, n: int | None = None, *, generator: torch.Generator | None = None
) -> Float[Tensor, "*n_and_batch ops"]:
    """Draw codes without gradient: the union of M categorical draws (DATA, TPAMI 2020, definition after Eq. 10).

    Args:
        probs: p, shape (..., K).
        samples: the number of draws M.
        n: how many codes of each vector; without it one, and no dimension for it.
        generator: source of randomness; it may live on another device than `probs`.

    Returns:
        Shape (..., K), or (n, ..., K) with `n`; 0 or 1, of the type of `probs`.

    Raises:
        ValueError: `samples` or `n` is not an integer of at least 1, or `probs` has no last dimension or an empty one.
        RuntimeError: from torch, for a vector that is negative somewhere, not finite, or all 0.
    """
    _check(probs, samples)
    count = 1 if n is None else n
    _check_count(count)
    operations = probs.shape[-1]
    device = probs.device if generator is None else generator.device
    rows = full_precision(probs.detach()).to(device).reshape(-1, operations)
    draws = rows.multinomial(count * samples, replacement=True, generator=generator).reshape(-1, count, samples)
    codes = torch.zeros(len(rows), count, operations, device=device).scatter_(-1, draws, 1.0)
    codes = codes.movedim(1, 0).reshape(count, *probs.shape).to(probs)
    return codes[0] if n is None else codes


def _check(probs: Tensor, samples: int, null: int | None = None) -> None:
    check_samples(samples)
    if probs.ndim == 0 or probs.shape[-1] == 0:
        raise ValueError(f"probs must have shape (..., K) with K at least 1, got {tuple(probs.shape)}")
    if null is not None and not 0 <= null < probs.shape[-1]:
        raise ValueError(f"null must be an index from 0 to {probs.shape[-1] - 1}, got {null}")


def _check_ops(name: str, tensor: Tensor, probs: Tensor) -> None:
    if tensor.shape[-1:] != probs.shape[-1:]:
        raise ValueError(f"{name} must have the last dimension {probs.shape[-1]} of probs, got {tuple(tensor.shape)}")


def _check_count(n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be an integer of at least 1, got {n!r}")
