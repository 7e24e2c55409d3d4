"""How uncertain a share of examples is, and the difference of two that were counted on the same examples."""

from __future__ import annotations

import math
from statistics import NormalDist


def share_interval(share: float, count: int, tail: float = 0.025) -> tuple[float, float]:
    """Wilson's interval of a share of `count` examples (Wilson, 1927).

    >>> low, high = share_interval(0.9, 1000)
    >>> print(f"{low:.3f} {high:.3f}")
    0.880 0.917

    Args:
        tail: probability that the truth lies beyond one end; as much for the other.

    Raises:
        ValueError: no share of at least one example, or a tail that is not between 0 and 1/2.
    """
    if not 0 <= share <= 1 or count < 1:
        raise ValueError(f"a share lies in 0..1 of at least one example, got {share} of {count}")
    z = _deviations(tail)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(first_alone: int, other_alone: int, count: int, tail: float = 0.025) -> tuple[float, float]:
    """The interval of the first share less the other, of the same examples (Agresti and Min, 2005, "Wald + 2").

    Wald's interval after 1/2 is added to each of the four counts of examples of which both, one or none is right.

    Args:
        first_alone: examples of which the first is right and the other wrong.
        other_alone: those the other way round.
        count: all examples.
        tail: as for `share_interval`.

    Raises:
        ValueError: more than all examples, none of them, or a tail that is not between 0 and 1/2.
    """
    if min(first_alone, other_alone) < 0 or first_alone + other_alone > count or count < 1:
        raise ValueError(f"{first_alone} and {other_alone} are no parts of {count} examples")
    total, apart = count + 2, first_alone + other_alone + 1
    gap = (first_alone - other_alone) / total
    half = _deviations(tail) * math.sqrt(apart - total * gap**2) / total
    return max(-1.0, gap - half), min(1.0, gap + half)


def independent_difference(
    first: float, interval: tuple[float, float], other: float, other_interval: tuple[float, float]
) -> tuple[float, float]:
    """The interval of the first score less the other, from their own (Newcombe, 1998, method 10).

    They are taken as measured on different examples: of the same ones it is too wide.
    """
    (low, high), (other_low, other_high), gap = interval, other_interval, first - other
    return gap - math.hypot(first - low, other_high - other), gap + math.hypot(high - first, other - other_low)


def _deviations(tail: float) -> float:
    if not 0 < tail < 0.5:
        raise ValueError(f"tail must lie between 0 and 1/2, got {tail}")
    return NormalDist().inv_cdf(1 - tail)
