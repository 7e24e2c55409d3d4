"""Means over seeds with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student


def interval(values: Sequence[float]) -> str:
    """The mean with its sign, and the half-width of its 95 % interval of Student's t where there are several."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return f"{mean:+.1f}"
    half = float(student.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / count**0.5
    return f"{mean:+.1f} ± {half:.1f}"
