"""Times as people write them."""

from __future__ import annotations

import math
import re

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h)")


def read_seconds(value: object) -> float:
    """Seconds from "90s", "20m", "1.5h" or "1h30m"; a float is seconds already.

    Raises:
        ValueError: it is none of these, has no unit, or is not above 0.
    """
    if isinstance(value, float) and math.isfinite(value) and value > 0:
        return value
    text = str(value).strip().lower()
    parts = _PART.findall(text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or _PART.sub("", text).strip() or not 0 < total < math.inf:
        raise ValueError(f"must be a time with its unit, such as 90s, 20m or 1.5h, got {value!r}")
    return total


def show_seconds(seconds: float) -> str:
    """Seconds, minutes or hours, in two or three digits."""
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
