"""What trained networks say of accuracy against a cost: which of them none beats, and what searching has gained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datanas.budgets.units import show
from datanas.comparison.statistics import paired
from datanas.core.shares import share_interval
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

    Of equal ones the first stays, and none of which the score is not finite.
    """
    undominated: list[Point] = []
    finite = [each for each in points if math.isfinite(each.trained.selection_score)]
    for point in sorted(finite, key=lambda each: (each.cost, -each.trained.selection_score, each.number)):
        if not undominated or point.trained.selection_score > undominated[-1].trained.selection_score:
            undominated.append(point)
    return undominated


def interval_of(trained: Trained, examples: int, task: type[Task[Any]]) -> tuple[float, float] | None:
    """The 95 % interval of a score; None of one that does not say how uncertain it is.

    Of a share that an earlier version measured Wilson's, of so many examples.
    """
    if trained.interval is None and task.metric.counts_examples:
        return share_interval(trained.score, examples)
    return trained.interval


def table(
    points: Sequence[Point],
    unit: str,
    examples: int,
    task: type[Task[Any]],
) -> list[list[str]]:
    """A header, and a row for each point, by bound; a star is on the front."""
    best = {point.number for point in front(points)}
    rows = [["bound", "origin", "costs", "parameters", "multiply-adds", task.metric.name, "95 %", "front"]]
    for point in sorted(points, key=lambda each: (each.bound, each.origin != SEARCHED, each.origin, each.number)):
        ends = interval_of(point.trained, examples, task)
        rows.append(
            [
                show(point.bound, unit),
                point.origin,
                show(point.cost, unit),
                f"{point.trained.parameters:,}",
                f"{point.trained.macs / 1e6:.2f} M",
                task.metric.show(point.trained.score),
                "" if ends is None else task.metric.show_range(*ends),
                "*" if point.number in best else "",
            ]
        )
    return rows


def gain(
    points: Sequence[Point],
    against: str,
    task: type[Task[Any]],
) -> tuple[dict[str, Any] | None, str]:
    """What the searched network is better than the others of its bound, paired over the bounds (`statistics.paired`).

    The interval treats the bounds as independent. They share a search, a seed and a judge: it holds for these only.

    Args:
        against: the origin of the others; several of a bound count by their mean.

    Returns:
        Figures in the unit of the score, None where fewer than two bounds have both; and a sentence.
    """
    ours, theirs = _by_bound(points, against)
    if len(ours) < 2:
        return None, f"fewer than two bounds have a searched and another network ({against}): nothing is said of these"
    comparison = paired(ours, theirs, higher_is_better=task.metric.higher_is_better, confidence=CONFIDENCE)
    metric, ends = task.metric, (comparison.mean, comparison.low, comparison.high)
    shown = metric.show_interval(*ends) if math.isfinite(comparison.low) else metric.show_difference(comparison.mean)
    return comparison.as_json(), (
        f"searched against {against} at equal bounds, mean of {comparison.pairs} in this search: {shown}, "
        f"{comparison.verdict}"
    )


def _by_bound(points: Sequence[Point], against: str) -> tuple[dict[int, float], dict[int, float]]:
    """By number of the bound, the score of the searched network, and the mean of the others.

    A bound without a searched network of its own has that of the next lower one: it is the likeliest there, too.
    """
    ours: dict[int, float] = {}
    theirs: dict[int, float] = {}
    score: float | None = None
    for index, bound in enumerate(sorted({point.bound for point in points})):
        here = [point for point in points if point.bound == bound]
        score = next((point.trained.score for point in here if point.origin == SEARCHED), score)
        others = [point.trained.score for point in here if point.origin == against]
        if score is not None and others:
            ours[index], theirs[index] = score, statistics.fmean(others)
    return ours, theirs
