"""Intervals as the pages have them, by scipy."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

from scipy.stats import binomtest
from scipy.stats import t as student
from tests.pages import Shown, text

TRIPLE = re.compile(r"([-+]?\d+\.\d+) (?:points )?\[([-+]\d+\.\d+), ([-+]\d+\.\d+)\]")


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of the mean by Student's t."""
    count = len(values)
    return float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)


def is_said(page: str, differences: Sequence[float]) -> bool:
    """Whether a page has the mean of these with its interval, where they are differences of two decimals' numbers."""
    mean, half = statistics.fmean(differences), half_width(differences)
    exact = mean, mean - half, mean + half
    return any(
        all(Shown.of(shown).is_rounded(value, given=2, times=4) for shown, value in zip(found, exact, strict=True))
        for found in TRIPLE.findall(text(page))
    )


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval, in per cent, of a share of so many examples."""
    found = binomtest(right, count).proportion_ci(method="wilson")
    return 100 * float(found.low), 100 * float(found.high)


def possible_counts(share: Shown, count: int) -> range:
    """How many of so many examples make a share that is shown so, in per cent."""
    middle, reach = share.value / 100 * count, 0.5 * 10.0**-share.digits / 100 * count
    return range(math.ceil(middle - reach), math.floor(middle + reach) + 1)
