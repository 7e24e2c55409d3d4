"""Bounds as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]*)")
COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "m": 1e6, "G": 1e9, "g": 1e9}
BYTES = {
    "B": 1.0,
    **{f"{prefix}B": factor for prefix, factor in {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}.items()},
    **{f"{prefix}iB": factor for prefix, factor in {"K": 2.0**10, "k": 2.0**10, "M": 2.0**20, "G": 2.0**30}.items()},
}
TIMES = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_LARGEST = 1e18


def parse_count(value: object) -> int:
    """A count from 2000000, "2M", "600k" or "1.2G".

    Raises:
        ValueError: it is none, or below 1.
    """
    return int(_read(value, COUNTS, "a count, such as 500k, 2M or 1.2G", least=1))


def parse_bytes(value: object) -> int:
    """A number of bytes from "500kB", "64MB" or "1.5MiB"; a number alone is bytes.

    Raises:
        ValueError: it is none, or below 1.
    """
    return int(_read(value, {**BYTES, "": 1.0}, "a size in bytes, such as 500kB, 64MB or 2MiB", least=1))


def parse_milliseconds(value: object) -> float:
    """Milliseconds from "5ms", "800us" or "0.1s"; a number that is no text is milliseconds already.

    Raises:
        ValueError: it is none, has no unit, or is not above 0.
    """
    units = TIMES if isinstance(value, str) else {**TIMES, "": 1.0}
    return _read(value, units, "a time with its unit, such as 5ms, 800us or 0.1s", least=0.0)


def _read(value: object, units: Mapping[str, float], wanted: str, least: float) -> float:
    match = None if isinstance(value, bool) else _NUMBER.fullmatch(str(value).strip())
    number = (
        math.nan if match is None or match[2] not in units else float(Decimal(match[1]) * Decimal(str(units[match[2]])))
    )
    if not least <= number <= _LARGEST or number == 0:
        raise ValueError(f"must be {wanted}, got {value!r}")
    return number


def show(value: float, unit: str) -> str:
    """A cost for people: "1.98 M multiply-adds", "412 kB", "4.71 ms"."""
    if unit == "ms":
        return f"{value:.3g} ms"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}{'B' if unit == 'B' else f' {unit}'}"
    return f"{value:.0f} {unit}"
