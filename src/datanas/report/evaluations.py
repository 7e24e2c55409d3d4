"""Trained networks side by side: what each scores, what it costs, and whether the difference to the first is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datanas.core.shares import independent_difference
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

    Where nothing is known of single examples it is made of the intervals of both (`independent_difference`).
    """
    if second.ahead is not None:
        return second.ahead[1:]
    if first.interval is None or second.interval is None:
        return None
    low, high = independent_difference(second.value, second.interval, first.value, first.interval)
    return (low, high) if higher_is_better else (-high, -low)


def evaluation_table(rows: Sequence[Measured], score_name: str) -> str:
    """A line for each network, with 95 % intervals, also of how much better it is than the first, as far as known.

    Args:
        rows: with what is shown of their intervals.
    """
    columns: list[tuple[str, Callable[[Measured], str]]] = [
        ("", lambda row: row.name),
        (score_name, lambda row: row.score),
    ]
    if any(row.interval_shown for row in rows):
        columns.append(("95 %", lambda row: row.interval_shown))
    is_compared = any(row.ahead is not None for row in rows[1:])
    if is_compared:
        columns.append(("ahead of the first by", lambda row: row.ahead_shown))
    columns.append(("parameters", lambda row: f"{row.parameters:,}"))
    columns.append(("multiply-adds", lambda row: f"{row.macs / 1e6:,.1f} M"))
    lines = [[head for head, _ in columns], *([of(row) for _, of in columns] for row in rows)]
    return "\n".join([plain_table(lines), *([evaluation_verdict(rows)] if is_compared else [])])


def evaluation_verdict(rows: Sequence[Measured], *, higher_is_better: bool = True) -> str:
    """Between which of the networks and the first a difference is shown, in words."""
    first, *others = rows
    words: dict[str, list[str]] = {"better": [], "worse": [], "equal": [], "unknown": []}
    for row in others:
        ends = ahead_of(first, row, higher_is_better=higher_is_better)
        kind = "unknown" if ends is None else "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "equal"
        words[kind].append(row.name)
    parts = []
    if words["better"]:
        parts.append(f"{' and '.join(words['better'])} better than {first.name}")
    if words["worse"]:
        parts.append(f"{first.name} better than {' and '.join(words['worse'])}")
    if words["equal"]:
        parts.append(f"no difference shown to {' and '.join(words['equal'])}")
    if words["unknown"]:
        parts.append(f"nothing can be said of {' and '.join(words['unknown'])}")
    return "; ".join(parts)
