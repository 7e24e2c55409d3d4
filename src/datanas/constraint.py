"""The architecture distribution constraint: how far probabilities are from their own code (DATA, TPAMI 2020)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from datanas.egs import full_precision

KINDS = ("l1", "power", "l2", "kl", "entropy")


def constraint(
    probs: Float[Tensor, "*batch ops"],
    gates: Float[Tensor, "*batch ops"],
    kind: str = "l1",
    power: float = 1.0,
    *,
    through_gates: bool = False,
    reduction: str = "sum",
    eps: float = 1e-3,
    mask: Bool[Tensor, "*batch ops"] | None = None,
) -> Float[Tensor, ""]:
    """The distance G(P) of probabilities P from the code f(P) drawn from them (DATA, TPAMI 2020, Eq. 12, 16-19).

    The sum over all entries of

    | kind         | term                                                | source     |
    |--------------|-----------------------------------------------------|------------|
    | l1, power    | abs(P - f)^power                                    | Eq. 12, 16 |
    | l2           | (P - f)^2                                           | Eq. 17     |
    | kl           | P log(P / f~), f~ = (1 - eps) f + eps, 0 log 0 = 0  | Eq. 18     |
    | entropy      | -P log P; does not use f                            | Eq. 19     |

    Eq. 18 as printed is infinite wherever P > 0 = f; hence f~. Gradients are finite everywhere: abs(x)^power has slope
    0 at x = 0, and P log P at P = 0 has the slope that it has at the smallest normal number.

    Args:
        probs: P, shape (..., K).
        gates: f(P), shape (..., K), in [0, 1].
        kind: one of the table.
        power: the exponent t of Eq. 12, for `l1` and `power`.
        through_gates: let the gradient flow through f(P) too. The paper leaves this open.
        reduction: "sum" as in the paper, or "mean" over the entries as in its authors' program.
        eps: how far the code is smoothed for `kl`, between 0 and 1.
        mask: shape (..., K), False at entries that only pad a vector; they count in neither the sum nor the mean.

    Returns:
        A scalar. Not negative, except that `kl` can be: f~ does not sum to 1.

    Raises:
        ValueError: an unknown `kind` or `reduction`, shapes that differ, `power` not positive or given for another
            kind, or `eps` outside (0, 1).

    >>> constraint(torch.tensor([0.75, 0.25]), torch.tensor([1.0, 0.0]))
    tensor(0.5000)
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be sum or mean, got {reduction!r}")
    if not 0 < power < math.inf:
        raise ValueError(f"power must be positive and finite, got {power}")
    if power != 1 and kind not in ("l1", "power"):
        raise ValueError(f"power is for the kinds l1 and power, got {power} with {kind!r}")
    if not 0 < eps < 1:
        raise ValueError(f"eps must be between 0 and 1, got {eps}")
    for name, other in (("gates", gates), ("mask", mask)):
        if other is not None and other.shape != probs.shape:
            raise ValueError(f"{name} must have the shape {tuple(probs.shape)} of probs, got {tuple(other.shape)}")

    probs, gates = full_precision(probs), full_precision(gates)
    if not through_gates:
        gates = gates.detach()
    if mask is not None:
        # Every kind has the term 0 at P = f = 0.
        probs, gates = probs.masked_fill(~mask, 0.0), gates.masked_fill(~mask, 0.0)
    total = _terms(probs, gates, kind, power, eps).sum()
    if reduction == "sum":
        return total
    return total / (probs.numel() if mask is None else mask.sum())


def _terms(probs: Tensor, gates: Tensor, kind: str, power: float, eps: float) -> Float[Tensor, "*batch ops"]:
    if kind in ("l1", "power"):
        gap = (probs - gates).abs()
        # Below power 1 the slope at 0 is infinite.
        met = gap == 0
        return (gap.masked_fill(met, 1.0) ** power).masked_fill(met, 0.0)
    if kind == "l2":
        return (probs - gates) ** 2
    p_log_p = probs * probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    if kind == "entropy":
        return -p_log_p
    return p_log_p - probs * ((1 - eps) * gates + eps).log()
