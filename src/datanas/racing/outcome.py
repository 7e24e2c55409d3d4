"""What a race says: who won, what that guarantees, and how searched candidates did against random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datanas.comparison.statistics import NOT_SHOWN
from datanas.engine.certainty import Certainty, Interval
from datanas.racing.candidates import Candidate
from datanas.tasks.base import Task

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Trained:
    """What a candidate has reached in a rung.

    Attributes:
        score: as the task measures it.
        selection_score: by which candidates are compared, the higher the better.
        parameters, macs, channels: of its network.
        interval: 95 % of the score; None where it does not say how uncertain it is, or an earlier version measured it.
    """

    score: float
    selection_score: float
    parameters: int
    macs: int
    channels: int
    interval: tuple[float, float] | None = None


Results = Sequence[dict[int, Trained]]
"""By rung, what each of its candidates has reached, by the candidate's number."""


def order(rung: dict[int, Trained]) -> list[int]:
    """The candidates of a rung, best first; of equally good ones the cheaper, then the one that was named first.

    Those of which the score is not finite come last.
    """

    def key(number: int) -> tuple[float, int, int]:
        score = rung[number].selection_score
        return (-score if math.isfinite(score) else math.inf), rung[number].macs, number

    return sorted(rung, key=key)


def guarantee(rung: dict[int, Trained], task: type[Task[Any]], certainty: Certainty | None) -> tuple[float | None, str]:
    """How far, with 95 % probability, the winner is at most behind the best finalist, as trained in the last rung.

    The upper ends of one-sided intervals of the differences, each with the error .05 / (finalists - 1).

    Args:
        rung: the last one.
        task: as it measures the data.
        certainty: what its scores say of their differences.

    Returns:
        The distance in the unit of the score, None where none can be given; and a sentence.
    """
    winner, *others = order(rung)
    if certainty is None:
        return None, (
            f"no bound can be given on how far the winner is from the best finalist: {task.metric.name} is no share of "
            "examples that count one by one, and what the networks say of each is not kept, so that a single figure "
            "does not say how uncertain it is"
        )
    tail = (1 - CONFIDENCE) / len(others)
    behind = (certainty.difference(number, winner, tail) for number in others)
    bound = max([0.0, *(each[2] for each in behind if each is not None)])
    return bound, (
        f"with 95 % probability the winner is within {task.metric.show_difference(bound).lstrip('+')} of the best "
        f"finalist, as trained in the last rung, on {task.answer_units} such as the judge's {certainty.examples:,}"
    )


def leads(rung: dict[int, Trained], certainty: Certainty | None) -> dict[int, Interval | None]:
    """By how much the winner is ahead of each other one, with intervals that hold together with 95 % probability.

    Each has the error .05 / (others) on both sides together (Bonferroni).

    Returns:
        None for each of which nothing can be said.
    """
    winner, *others = order(rung)
    tail = (1 - CONFIDENCE) / 2 / max(1, len(others))
    return {number: None if certainty is None else certainty.difference(winner, number, tail) for number in others}


def searched_against_random(
    rung: dict[int, Trained], candidates: Sequence[Candidate], task: type[Task[Any]]
) -> tuple[dict[str, Any] | None, str]:
    """The mean score of searched candidates less that of random ones in the first rung, with Welch's interval.

    Returns:
        Figures in the unit of the score, None where there are not two of both; and a sentence.
    """
    others = [number for number in rung if not candidates[number].is_reference and math.isfinite(rung[number].score)]
    from scipy import stats  # here, since every command would wait for it

    both = [[rung[i].score for i in others if candidates[i].is_searched == wanted] for wanted in (True, False)]
    searched, random = (np.array(part) for part in both)
    if min(len(searched), len(random)) < 2:
        return None, "fewer than two searched or two other candidates: nothing is said of searching"
    mean = float(searched.mean() - random.mean())
    variances = searched.var(ddof=1) / len(searched), random.var(ddof=1) / len(random)
    figures: dict[str, Any] = {"mean": mean, "searched": len(searched), "others": len(random)}
    if sum(variances) == 0:
        return {**figures, "low": None, "high": None, "verdict": NOT_SHOWN}, f"searched against others: {NOT_SHOWN}"
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(part) - 1) for variance, part in zip(variances, (searched, random), strict=True)
    )
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(sum(variances))
    low, high = mean - reach, mean + reach
    is_shown = low > 0 or high < 0
    verdict = NOT_SHOWN if not is_shown else "better" if (low > 0) == task.metric.higher_is_better else "worse"
    return (
        {**figures, "low": low, "high": high, "verdict": verdict},
        "searched candidates against the others in the first rung: "
        f"{task.metric.show_interval(mean, low, high)}, {verdict}",
    )


def table(candidates: Sequence[Candidate], results: Results, task: type[Task[Any]]) -> list[list[str]]:
    """A header, and a row for each candidate, the winner first, then by the last rung that it was in."""
    last = {number: max(index for index, rung in enumerate(results) if number in rung) for number in results[0]}
    ranks = {number: index for rung in results for index, number in enumerate(order(rung))}
    numbers = sorted(last, key=lambda number: (-last[number], ranks[number]))
    rungs = [f"{task.metric.name}, rung {index}" for index in range(1, len(results) + 1)]
    rows = [["", "origin", "channels", "parameters", "multiply-adds", *rungs]]
    for number in numbers:
        first = results[0][number]
        scores = [task.metric.show(rung[number].score) if number in rung else "" for rung in results]
        costs = [str(first.channels), f"{first.parameters:,}", f"{first.macs / 1e6:.1f} M"]
        rows.append([str(number), candidates[number].origin, *costs, *scores])
    return rows
