"""The polynomial of Eq. 15 in log space: how likely M draws are to give a set of operations (DATA, TPAMI 2020).

P(S) = M! [x^M] prod_{k in S} (exp(p_k x) - 1), as `datanas.posterior` says. All terms are positive, so nothing cancels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# Stands for log 0: the gradients of a true -inf are NaN. Sums of some thousand of them stay finite in float32.
_LOG_ZERO = -1e30


# Log-probabilities that agree to within this are ties. Rounding errors are far smaller.
TIE = 2.0**-34


def log_of(probs: Tensor) -> Tensor:
    """log p, and `_LOG_ZERO` where p is 0."""
    impossible = probs == 0
    return probs.masked_fill(impossible, 1.0).log().masked_fill(impossible, _LOG_ZERO)


def round_to_ties(log_probs: Tensor) -> Tensor:
    """Log-probabilities that are equal where they are ties."""
    return (log_probs / TIE).round() * TIE


def arrange(
    probs: Tensor, null: int | None
) -> tuple[Int64[Tensor, "*batch visible"], Float[Tensor, "*batch visible"], Float[Tensor, "*batch"] | None]:
    """The visible operations in falling order of p, ties by index: their indices, their log p, and log p of `null`."""
    probs = probs.detach().to("cpu", torch.float64)
    if not (probs.isfinite() & (probs >= 0)).all() or not (probs > 0).any(-1).all():
        raise ValueError("probs must be finite, not negative, and above 0 somewhere in each vector")
    visible = torch.tensor([k for k in range(probs.shape[-1]) if k != null], dtype=torch.int64, device="cpu")
    ordered, rank = probs[..., visible].sort(dim=-1, descending=True, stable=True)
    return visible[rank], log_of(ordered), None if null is None else log_of(probs[..., null])


def _log_binomials(samples: int) -> Float[Tensor, "drawn new"]:
    """log C(m, t) for m = 0..M and t = 1..M, log 0 where t > m."""
    drawn = torch.arange(samples + 1, device="cpu")
    log_factorial = (drawn.double() + 1).lgamma()
    m, t = drawn.unsqueeze(-1), drawn[1:]
    logs = log_factorial[m] - log_factorial[t] - log_factorial[(m - t).clamp_min(0)]
    return logs.masked_fill(t > m, _LOG_ZERO)


def prefix_log_probs(
    log_probs: Float[Tensor, "*batch members"], log_null: Float[Tensor, "*batch"] | None, samples: int
) -> Float[Tensor, "*batch sizes"]:
    """log P of the sets of the first 0, 1, ..., R of R operations.

    Multiplies the factors one by one. `state` holds log m! [x^m] of the product for m = 0..M, so a factor
    exp(p x) - 1 takes a_m to sum_{t=1..m} C(m, t) p^t a_{m-t}.
    """
    drawn = torch.arange(samples + 1, device=log_probs.device)
    if log_null is None:
        state = log_probs.new_full((*log_probs.shape[:-1], samples + 1), _LOG_ZERO)
        state[..., 0] = 0.0
    else:
        state = drawn * log_null.unsqueeze(-1)
    log_binomials = _log_binomials(samples).to(log_probs)
    new = drawn[1:]
    earlier = (drawn.unsqueeze(-1) - new).clamp_min(0)
    by_size = [state[..., -1]]
    for log_p in log_probs.unbind(-1):
        factor = log_binomials + (new * log_p.unsqueeze(-1)).unsqueeze(-2)
        state = (state[..., earlier] + factor).logsumexp(-1)
        by_size.append(state[..., -1])
    values = torch.stack(by_size, -1)
    return values.masked_fill(values < _LOG_ZERO / 2, -math.inf)
