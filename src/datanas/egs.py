"""Gumbel-Softmax and its ensemble: differentiable draws of architecture codes (DATA, TPAMI 2020, Eq. 7-10)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Estimator = Literal["shared_ties", "first_tie", "disjunction", "gumbel_rao", "reinmax", "inclusion"]
"""How the gradient of a code is estimated; see `ensemble_gumbel_softmax`."""

RAO_DRAWS = 16
"""Draws of the noise for each sample that `gumbel_rao` averages over."""


def gumbel_softmax(
    logits: Float[Tensor, "*batch ops"],
    tau: float = 1.0,
    *,
    hard: bool = True,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch ops"]:
    """Draw one operation from each probability vector (DATA, TPAMI 2020, Eq. 7-9).

    L_k = exp((log p_k + G_k) / tau) / sum_j exp((log p_j + G_j) / tau), G standard Gumbel noise.

    Args:
        logits: log p up to a constant, shape (..., K); -inf stands for p = 0. A vector that holds NaN or +inf, or
            nothing but -inf, gives NaN.
        tau: temperature.
        hard: return the one-hot vector of argmax L, its gradient that of L (straight-through); else L itself.
        generator: source of the noise; it may live on another device than `logits`.

    Returns:
        Shape (..., K): exactly 0 or 1 with one 1 per vector if `hard`, else in [0, 1] with sum 1. Of the type of
        `logits`, but float32 where that is a half-precision type.

    Raises:
        ValueError: `tau` is not finite or not positive, or `logits` has no last dimension or an empty one.

    >>> p = torch.tensor([0.1, 0.9, 0.0])
    >>> code = gumbel_softmax(p.log(), generator=torch.Generator().manual_seed(0))
    >>> int(code.sum()), float(code[2])
    (1, 0.0)
    """
    return _draw(logits, (), tau, hard, generator)


def ensemble_gumbel_softmax(
    logits: Float[Tensor, "*batch ops"],
    samples: int,
    tau: float = 1.0,
    *,
    generator: torch.Generator | None = None,
    estimator: Estimator = "shared_ties",
) -> Float[Tensor, "*batch ops"]:
    """Draw a binary code with 1 to M ones from each probability vector (DATA, TPAMI 2020, definition after Eq. 10).

    b_k = max_{i=1..M} z_k^(i), each z^(i) a hard Gumbel-Softmax draw. The code is the same whatever the estimator of
    its gradient:

    - `shared_ties`: the mean of the gradients of the draws that attain the maximum, which are those that chose k, or
      all M if none did.
    - `first_tie`: that of the first of them, as `torch.max` gives it.
    - `disjunction`: that of 1 - prod_i (1 - z_k^(i)). A draw counts only where no other has chosen k, so that the
      gradient of a linear loss is that of the inclusion probability but for the bias of Gumbel-Softmax itself.
    - `gumbel_rao`: as `shared_ties`, each draw's gradient averaged over RAO_DRAWS draws of the noise given what was
      chosen (Paulus, Maddison and Krause, ICLR 2021).
    - `reinmax`: as `shared_ties`, each draw with the second-order gradient of Liu et al. (NeurIPS 2023).
    - `inclusion`: that of the inclusion probability 1 - (1 - p_k)^M, without noise; exact for a linear loss. `tau`
      plays no part.

    Args:
        logits: log p up to a constant, shape (..., K); -inf stands for p = 0. A vector that holds NaN or +inf, or
            nothing but -inf, gives NaN.
        samples: the number of draws M.
        tau: temperature of the gradient; it does not change the distribution of the code.
        generator: source of the noise; it may live on another device than `logits`.
        estimator: of the gradient; `benchmarks/estimator.py` measures bias and variance.

    Returns:
        Shape (..., K), exactly 0 or 1. Of the type of `logits`, but float32 where that is a half-precision type.

    Raises:
        ValueError: `samples` is not an integer of at least 1, `tau` is not finite or not positive, `logits` has no last
            dimension or an empty one, or there is no such estimator.

    >>> logits = torch.zeros(5, 8, requires_grad=True)  # 5 edges, 8 operations, all alike
    >>> codes = ensemble_gumbel_softmax(logits, samples=4)
    >>> bool((codes.sum(-1) >= 1).all() and (codes.sum(-1) <= 4).all())
    True
    >>> codes.sum().backward()  # straight through to the logits
    """
    check_samples(samples)
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    draws = _draw(logits, (samples,), tau, True, generator)
    if estimator == "first_tie":
        return draws.max(0).values
    if estimator == "disjunction":
        return 1 - (1 - draws).prod(0)
    logits = full_precision(logits)
    if estimator == "inclusion":
        excluded = (samples * torch.log1p(-logits.softmax(-1).clamp_max(1 - torch.finfo(logits.dtype).eps))).exp()
        return _straight_through(draws.detach().amax(0), -excluded)
    if estimator == "gumbel_rao":
        draws = _straight_through(draws.detach(), _rao_blackwellised(logits, draws.detach(), tau, generator))
    if estimator == "reinmax":
        draws = _straight_through(draws.detach(), _second_order(logits, draws.detach(), tau))
    return draws.amax(0)


def check_samples(samples: int) -> None:
    """Raise ValueError unless the number of draws M is an integer of at least 1."""
    if not isinstance(samples, int):
        raise ValueError(f"samples must be an integer, got {samples!r}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor itself if it is float64, else in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _draw(
    logits: Tensor, draws: tuple[int, ...], tau: float, hard: bool, generator: torch.Generator | None
) -> Float[Tensor, "*draws_and_batch ops"]:
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., K) with K at least 1, got {tuple(logits.shape)}")
    logits = full_precision(logits)
    smallest = torch.finfo(logits.dtype).tiny
    if not smallest <= tau < math.inf:
        raise ValueError(f"tau must be finite and at least {smallest:.3g}, got {tau}")

    noisy = logits + _gumbel_noise((*draws, *logits.shape), logits, generator)
    # Softmax ignores a shift; without it the division overflows at small tau.
    soft = ((noisy - noisy.detach().amax(-1, keepdim=True)) / tau).softmax(-1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(-1, noisy.detach().argmax(-1, keepdim=True), 1.0)
    return _straight_through(one_hot, soft)


def _straight_through(value: Tensor, slope: Tensor) -> Tensor:
    """`value` with the gradient of `slope`."""
    # The brackets keep the value exact: the difference is 0, while value + slope would be rounded.
    return value + (slope - slope.detach())


def _rao_blackwellised(
    logits: Tensor, chosen: Tensor, tau: float, generator: torch.Generator | None
) -> Float[Tensor, "samples *batch ops"]:
    """The mean of L (Eq. 8) over noise under which the same operations are chosen.

    Given that d is chosen, log p_d + G_d is a standard Gumbel variable -log E, and the others are -log(E_k / p_k + E).
    """
    log_probs = logits.detach().log_softmax(-1)
    noise = -_gumbel_noise((RAO_DRAWS, *chosen.shape), logits, generator)  # log of exponential variables
    top = (noise * chosen).sum(-1, keepdim=True)
    noisy = torch.where(chosen > 0, -top, -torch.logaddexp(noise - log_probs, top))
    shifted = torch.where(logits.isfinite(), logits - logits.detach() + noisy, -math.inf)
    return (shifted / tau).softmax(-1).mean(0)


def _second_order(logits: Tensor, chosen: Tensor, tau: float) -> Float[Tensor, "samples *batch ops"]:
    """Twice the softmax tilted to the middle between what was chosen and the softmax, less half of the softmax."""
    probs = logits.softmax(-1)
    middle = (chosen + (logits.detach() / tau).softmax(-1)) / 2
    zero = torch.where(logits.isfinite(), logits - logits.detach(), 0.0)
    tilted = (zero + middle.log()).softmax(-1)
    return 2 * tilted - probs / 2


def _gumbel_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    exponential = torch.empty(shape, dtype=like.dtype, device=device).exponential_(generator=generator)
    # Random bits resolve an exponential only down to about eps. The floor keeps the noise finite at 0.
    return -exponential.clamp_min(torch.finfo(like.dtype).eps).log().to(like.device)
