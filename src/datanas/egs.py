"""Gumbel-Softmax and its ensemble: differentiable draws of architecture codes (DATA, TPAMI 2020, Eq. 7-10)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


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
    """
    return _draw(logits, (), tau, hard, generator)


def ensemble_gumbel_softmax(
    logits: Float[Tensor, "*batch ops"],
    samples: int,
    tau: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch ops"]:
    """Draw a binary code with 1 to M ones from each probability vector (DATA, TPAMI 2020, definition after Eq. 10).

    b_k = max_{i=1..M} z_k^(i), each z^(i) a hard Gumbel-Softmax draw. The gradient of b_k is the mean of those of the
    draws that attain the maximum: the ones that chose k, or all M if none did.

    Args:
        logits: log p up to a constant, shape (..., K); -inf stands for p = 0. A vector that holds NaN or +inf, or
            nothing but -inf, gives NaN.
        samples: the number of draws M.
        tau: temperature of the gradient; it does not change the distribution of the code.
        generator: source of the noise; it may live on another device than `logits`.

    Returns:
        Shape (..., K), exactly 0 or 1. Of the type of `logits`, but float32 where that is a half-precision type.

    Raises:
        ValueError: `samples` is not an integer of at least 1, `tau` is not finite or not positive, or `logits` has no
            last dimension or an empty one.
    """
    check_samples(samples)
    return _draw(logits, (samples,), tau, True, generator).amax(0)


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
    # The brackets keep the value exact: the difference is 0, while one_hot + soft would be rounded.
    return one_hot + (soft - soft.detach())


def _gumbel_noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    exponential = torch.empty(shape, dtype=like.dtype, device=device).exponential_(generator=generator)
    # Random bits resolve an exponential only down to about eps. The floor keeps the noise finite at 0.
    return -exponential.clamp_min(torch.finfo(like.dtype).eps).log().to(like.device)
