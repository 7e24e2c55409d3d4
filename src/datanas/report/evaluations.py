"""Trained networks side by side: what each scores, what it costs, and whether the difference to the first is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datanas.core.text_table import plain_table

Z = 1.959964
"""Standard deviations that hold 95 % of a normal distribution on both sides."""


@dataclass(frozen=True)
class Measured:
    """One network.

    Attributes:
        name: for people.
        score: as it is shown, such as "91.2%".
        value: the score; a share in 0..1 where `examples` is given.
        parameters, macs: its costs.
        examples: on how many independent examples the share was counted; None where it was not counted so.
    """

    name: str
    score: str
    value: float
    parameters: int
    macs: int
    examples: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The share's 95 % interval (Wilson, 1927)."""
        if not self.examples:
            return None
        n, p = self.examples, self.value
        middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        return middle - half, middle + half


def score_text(score: float, *, is_share: bool) -> str:
    """A score for people: in per cent where it is a share."""
    return f"{score:.1%}" if is_share else f"{score:.4g}"


def difference(first: Measured, second: Measured) -> tuple[float, float] | None:
    """The 95 % interval of the second share less the first (Newcombe, 1998, method 10); None where one has none.

    The networks are measured on the same examples, which it does not make use of: it is rather too wide.
    """
    if first.interval is None or second.interval is None:
        return None
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    gap = second.value - first.value
    down = math.hypot(second.value - low_2, high_1 - first.value)
    up = math.hypot(high_2 - second.value, first.value - low_1)
    return gap - down, gap + up


def evaluation_table(rows: Sequence[Measured], score_name: str) -> str:
    """A line for each network; where shares were counted, with 95 % intervals, also of the difference to the first."""
    counted = all(row.interval is not None for row in rows)
    header = ["", score_name, *(["95 %", "to the first"] if counted else []), "parameters", "multiply-adds"]
    lines = [header, *(_line(row, rows[0], counted=counted) for row in rows)]
    return "\n".join([plain_table(lines), *([evaluation_verdict(rows)] if counted and len(rows) > 1 else [])])


def _line(row: Measured, first: Measured, *, counted: bool) -> list[str]:
    costs = [f"{row.parameters:,}", f"{row.macs / 1e6:,.1f} M"]
    own, to_first = row.interval, difference(first, row)
    if not counted or own is None or to_first is None:
        return [row.name, row.score, *costs]
    gap = "" if row is first else f"{100 * to_first[0]:+.1f}..{100 * to_first[1]:+.1f}"
    return [row.name, row.score, f"{100 * own[0]:.1f}..{100 * own[1]:.1f}", gap, *costs]


def evaluation_verdict(rows: Sequence[Measured]) -> str:
    """Between which of the networks and the first a difference is shown, in words; all of them have intervals."""
    first, *others = rows
    gaps: Mapping[str, Any] = {row.name: difference(first, row) for row in others}
    better = [name for name, gap in gaps.items() if gap[0] > 0]
    worse = [name for name, gap in gaps.items() if gap[1] < 0]
    parts = []
    if better:
        parts.append(f"{' and '.join(better)} better than {first.name}")
    if worse:
        parts.append(f"{first.name} better than {' and '.join(worse)}")
    if equal := [name for name in gaps if name not in (*better, *worse)]:
        parts.append(f"no difference shown to {' and '.join(equal)}")
    return "; ".join(parts)
