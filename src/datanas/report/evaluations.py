"""Trained networks side by side: what each scores, what it costs, and whether the difference to the first is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datanas.core.text_table import plain_table


@dataclass(frozen=True)
class Measured:
    """One network.

    Attributes:
        name: for people.
        score: as it is shown, such as "91.2%".
        value: the score.
        parameters, macs: its costs.
        interval: 95 % of the score; None where it does not say how uncertain it is.
        ahead: how much better it is than the first of a table, and the ends of that interval, where both were measured
            on the same examples and that was made use of.
        interval_shown, ahead_shown: these, as people read them.
    """

    name: str
    score: str
    value: float
    parameters: int
    macs: int
    interval: tuple[float, float] | None = None
    ahead: tuple[float, float, float] | None = None
    interval_shown: str = ""
    ahead_shown: str = ""


def score_text(score: float, *, is_share: bool) -> str:
    """A score for people: in per cent where it is a share."""
    return f"{score:.1%}" if is_share else f"{score:.4g}"


def ahead_of(first: Measured, second: Measured, *, higher_is_better: bool = True) -> tuple[float, float] | None:
    """The 95 % interval of how much better the second is than the first; None where a score has none.

    Where nothing is known of single examples it is made of the intervals of both (Newcombe, 1998, method 10), as if
    they were measured on other examples: of the same ones it is too wide.
    """
    if second.ahead is not None:
        return second.ahead[1:]
    if first.interval is None or second.interval is None:
        return None
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    gap = second.value - first.value
    down = math.hypot(second.value - low_2, high_1 - first.value)
    up = math.hypot(high_2 - second.value, first.value - low_1)
    return (gap - down, gap + up) if higher_is_better else (-gap - up, -gap + down)


def evaluation_table(rows: Sequence[Measured], score_name: str) -> str:
    """A line for each network; with 95 % intervals, also of how much better it is than the first, where all have them.

    Args:
        rows: with what is shown of their intervals.
    """
    are_certain = all(row.interval is not None for row in rows)
    is_compared = are_certain and len(rows) > 1 and all(row.ahead is not None for row in rows[1:])
    heads = ["", score_name, *(["95 %"] if are_certain else []), *(["ahead of the first by"] if is_compared else [])]
    lines = [[*heads, "parameters", "multiply-adds"]]
    for row in rows:
        shown = [*([row.interval_shown] if are_certain else []), *([row.ahead_shown] if is_compared else [])]
        lines.append([row.name, row.score, *shown, f"{row.parameters:,}", f"{row.macs / 1e6:,.1f} M"])
    return "\n".join([plain_table(lines), *([evaluation_verdict(rows)] if is_compared else [])])


def evaluation_verdict(rows: Sequence[Measured], *, higher_is_better: bool = True) -> str:
    """Between which of the networks and the first a difference is shown, in words; all of them have intervals."""
    first, *others = rows
    ends = [(row.name, ahead_of(first, row, higher_is_better=higher_is_better) or (0.0, 0.0)) for row in others]
    better = [name for name, (low, _) in ends if low > 0]
    worse = [name for name, (_, high) in ends if high < 0]
    equal = [name for name, (low, high) in ends if low <= 0 <= high]
    parts = []
    if better:
        parts.append(f"{' and '.join(better)} better than {first.name}")
    if worse:
        parts.append(f"{first.name} better than {' and '.join(worse)}")
    if equal:
        parts.append(f"no difference shown to {' and '.join(equal)}")
    return "; ".join(parts)
