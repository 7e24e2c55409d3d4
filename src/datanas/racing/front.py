"""What trained networks say of accuracy against a cost: which of them none beats, and what searching has gained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy import stats

from datanas.budgets.units import show
from datanas.comparison.statistics import NOT_SHOWN
from datanas.racing.outcome import CONFIDENCE, Trained
from datanas.tasks.base import Task

SEARCHED, RANDOM = "searched", "random"


@dataclass(frozen=True)
class Point:
    """A trained network of a front.

    Attributes:
        number: of the candidate.
        origin: "searched", "random" or "reference: NAME".
        bound: for which it takes part.
        cost: what it costs.
        trained: what it has reached.
    """

    number: int
    origin: str
    bound: float
    cost: float
    trained: Trained


def front(points: Sequence[Point]) -> list[Point]:
    """The points that none of the others beats: as good and cheaper, or better and no dearer; cheapest first.

    Of equal ones the first stays.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.trained.selection_score, each.number)):
        if not kept or point.trained.selection_score > kept[-1].trained.selection_score:
            kept.append(point)
    return kept


def half_width(score: float, examples: int, task: type[Task[Any]]) -> float | None:
    """Half of the 95 % interval of a share of so many examples; None of a score that is no such share."""
    if not task.metric.counts_examples:
        return None
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(score * (1 - score) / examples)


def table(
    points: Sequence[Point],
    unit: str,
    examples: int,
    task: type[Task[Any]],
) -> list[list[str]]:
    """A header, and a row for each point, by bound; a star is on the front."""
    best = {point.number for point in front(points)}
    rows = [["bound", "origin", "costs", "parameters", "multiply-adds", task.metric.name, "+-", "front"]]
    for point in sorted(points, key=lambda each: (each.bound, each.origin != SEARCHED, each.origin, each.number)):
        half = half_width(point.trained.score, examples, task)
        rows.append(
            [
                show(point.bound, unit),
                point.origin,
                show(point.cost, unit),
                f"{point.trained.parameters:,}",
                f"{point.trained.macs / 1e6:.2f} M",
                task.metric.show(point.trained.score),
                "" if half is None else f"{task.metric.scale * half:.1f}",
                "*" if point.number in best else "",
            ]
        )
    return rows


def gain(
    points: Sequence[Point],
    against: str,
    task: type[Task[Any]],
) -> tuple[dict[str, Any] | None, str]:
    """The mean over the bounds of what the searched network is better than the others of that bound, with a t interval.

    Args:
        against: the origin of the others; several of a bound count by their mean.

    Returns:
        Figures in the unit of the score, None where fewer than two bounds have both; and a sentence.
    """
    differences = _differences(points, against)
    if len(differences) < 2:
        return None, f"fewer than two bounds have a searched and another network ({against}): nothing is said of these"
    values = np.array(list(differences.values()))
    mean = float(values.mean())
    spread = float(values.std(ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    low, high = mean - reach, mean + reach
    is_shown = spread > 0 and (low > 0 or high < 0)
    verdict = NOT_SHOWN if not is_shown else "better" if (low > 0) == task.metric.higher_is_better else "worse"
    scale = task.metric.scale
    return (
        {"mean": mean, "low": low, "high": high, "bounds": len(values), "verdict": verdict},
        f"searched against {against} at equal bounds, mean of {len(values)}: {scale * mean:+.1f} "
        f"[{scale * low:+.1f}, {scale * high:+.1f}], {verdict}",
    )


def _differences(points: Sequence[Point], against: str) -> Mapping[float, float]:
    """By bound, the score of the searched network less the mean of the others."""
    found: dict[float, float] = {}
    for bound in sorted({point.bound for point in points}):
        here = [point for point in points if point.bound == bound]
        ours = [point.trained.score for point in here if point.origin == SEARCHED]
        others = [point.trained.score for point in here if point.origin == against]
        if ours and others:
            found[bound] = float(np.mean(ours) - np.mean(others))
    return found
