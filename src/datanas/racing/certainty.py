"""How far two networks that were judged alike are apart by more than chance: intervals of the difference of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import torch
from jaxtyping import Float64
from safetensors.torch import load_file
from torch import Tensor

from datanas.core import seeding
from datanas.engine.evaluation import ANSWERS_FILE
from datanas.tasks.base import Task
from datanas.tasks.kind import Answers

RESAMPLES = 2000
_TOGETHER = 1_000_000
"""Numbers of the resamples that are drawn together."""

Interval = tuple[float, float, float]
"""A difference, and the ends of its interval."""


class Certainty(Protocol):
    """What the scores of some networks, by number, say of their differences.

    Attributes:
        examples: on which all were judged.
    """

    @property
    def examples(self) -> int: ...

    def difference(self, first: int, other: int, tail: float) -> Interval | None:
        """By how much the first is better, in the unit of the score, with an interval.

        Args:
            tail: probability that the truth lies beyond one end; as much for the other.

        Returns:
            None where a score is not finite.
        """
        ...


@dataclass(frozen=True)
class OfShares:
    """Scores that are shares p of n examples that are right, taken as independent: d -+ z sqrt(sum p (1 - p) / n)."""

    scores: Mapping[int, float]
    examples: int

    def difference(self, first: int, other: int, tail: float) -> Interval | None:
        better, worse = self.scores[first], self.scores[other]
        if not (math.isfinite(better) and math.isfinite(worse)):
            return None
        reach = NormalDist().inv_cdf(1 - tail)
        reach *= math.sqrt((better * (1 - better) + worse * (1 - worse)) / self.examples)
        return better - worse, better - worse - reach, better - worse + reach


@dataclass(frozen=True)
class OfResamples:
    """The paired bootstrap over examples: both scores of one resample after another, the same examples for both.

    Ends are percentiles of the differences of 2,000 resamples of as many examples, drawn with replacement and keyed
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Attributes:
        task: whose score it is.
        answers: of each network, of the same examples in one order.
        scores: of each, of all examples.
    """

    task: type[Task[Any]]
    answers: Mapping[int, Answers]
    scores: Mapping[int, float]

    @property
    def examples(self) -> int:
        return len(next(iter(next(iter(self.answers.values())).values())))

    def difference(self, first: int, other: int, tail: float) -> Interval | None:
        spread = self._resampled[first] - self._resampled[other]
        mean = self.scores[first] - self.scores[other]
        if not (math.isfinite(mean) and bool(spread.isfinite().all())):
            return None
        low, high = spread.quantile(torch.tensor([tail, 1 - tail], dtype=spread.dtype)).tolist()
        is_rising = self.task.metric.higher_is_better
        return (mean, low, high) if is_rising else (-mean, -high, -low)

    @cached_property
    def _resampled(self) -> dict[int, Float64[Tensor, " resamples"]]:
        """The score of each network in each resample."""
        size = self.examples
        step = max(1, _TOGETHER // size)
        scores: dict[int, list[Tensor]] = {number: [] for number in self.answers}
        for start in range(0, RESAMPLES, step):
            count = min(step, RESAMPLES - start)
            drawn = torch.randint(size, (count, size), generator=seeding.generator(0, "resamples", start))
            counts = torch.zeros(count, size, dtype=torch.float64).scatter_add_(
                1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(count, size)
            )
            for number, answers in self.answers.items():
                scores[number].append(self.task.resampled_scores(answers, counts))
        return {number: torch.cat(parts) for number, parts in scores.items()}


def certainty_of(
    scores: Mapping[int, float], task: type[Task[Any]], examples: int, folders: Mapping[int, Path]
) -> Certainty | None:
    """What can be said of differences of these scores; None where the score tells nothing of it.

    Args:
        scores: of networks, by number.
        examples: that the judge counts.
        folders: of the trainings, in which a task may have kept what they say of each example.
    """
    if task.metric.counts_examples:
        return OfShares(scores, examples)
    files = {number: folders[number] / ANSWERS_FILE for number in scores}
    if not task.keeps_answers or not all(file.is_file() for file in files.values()):  # an earlier version kept none
        return None
    return OfResamples(task, {number: load_file(file) for number, file in files.items()}, scores)
