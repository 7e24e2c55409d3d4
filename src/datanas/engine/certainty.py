"""How uncertain a score is, and how far two networks that were measured alike are apart by more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

import torch
from jaxtyping import Float64
from safetensors.torch import load_file
from torch import Tensor

from datanas.core import seeding
from datanas.core.shares import paired_difference, share_interval
from datanas.tasks.kind import Answers, TaskKind

ANSWERS_FILE = "answers.safetensors"
TAIL = 0.025
"""Of an interval of 95 %, beyond each end."""
RESAMPLES = 2000
FEWEST_RESAMPLES = 200
LEAST = 20
"""Examples. Of fewer the bootstrap finds differences where there are none."""
_WORK = 200_000_000
"""Numbers in all resamples, about: of large parts there are fewer resamples."""
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
class OfPairs:
    """Shares of the same examples, by how many only one of two networks is right of (`paired_difference`).

    Attributes:
        right: of each network, of which examples it is, in one order.
    """

    right: Mapping[int, Tensor]

    @property
    def examples(self) -> int:
        return len(next(iter(self.right.values())))

    def difference(self, first: int, other: int, tail: float) -> Interval | None:
        ours, theirs = (self.right[number].bool() for number in (first, other))
        alone, others = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        return (alone - others) / self.examples, *paired_difference(alone, others, self.examples, tail)


@dataclass(frozen=True)
class OfResamples:
    """The paired bootstrap over examples: both scores of one resample after another, the same examples for both.

    Ends are percentiles of the differences of 2,000 resamples, of very large parts fewer, each of as many examples,
    drawn with replacement and keyed (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Attributes:
        task: whose score it is.
        answers: of each network, of the same examples in one order.
        scores: of each, of all examples.
    """

    task: type[TaskKind]
    answers: Mapping[int, Answers]
    scores: Mapping[int, float]

    @property
    def examples(self) -> int:
        return len(next(iter(next(iter(self.answers.values())).values())))

    def difference(self, first: int, other: int, tail: float) -> Interval | None:
        if self.examples < LEAST:
            return None
        spread = self._resampled[first] - self._resampled[other]
        mean = self.scores[first] - self.scores[other]
        if not (math.isfinite(mean) and bool(spread.isfinite().all())):
            return None
        low, high = spread.quantile(torch.tensor([tail, 1 - tail], dtype=spread.dtype)).tolist()
        is_rising = self.task.metric.higher_is_better
        return (mean, low, high) if is_rising else (-mean, -high, -low)

    def interval(self, number: int, tail: float) -> tuple[float, float] | None:
        """Of one score; None of fewer than 20 examples, or where that of a resample is not finite."""
        if self.examples < LEAST:
            return None
        spread = self._resampled[number]
        if not bool(spread.isfinite().all()):
            return None
        low, high = spread.quantile(torch.tensor([tail, 1 - tail], dtype=spread.dtype)).tolist()
        return low, high

    @cached_property
    def _resampled(self) -> dict[int, Float64[Tensor, " resamples"]]:
        """The score of each network in each resample."""
        size = self.examples
        step = max(1, _TOGETHER // size)
        numbers = sum(value.numel() for value in next(iter(self.answers.values())).values())
        resamples = max(FEWEST_RESAMPLES, min(RESAMPLES, _WORK // numbers))
        scores: dict[int, list[Tensor]] = {number: [] for number in self.answers}
        for start in range(0, resamples, step):
            count = min(step, resamples - start)
            drawn = torch.randint(size, (count, size), generator=seeding.generator(0, "resamples", start))
            counts = torch.zeros(count, size, dtype=torch.float64).scatter_add_(
                1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(count, size)
            )
            for number, answers in self.answers.items():
                scores[number].append(self.task.resampled_scores(answers, counts))
        return {number: torch.cat(parts) for number, parts in scores.items()}


def score_interval(
    task: type[TaskKind], score: float, answers: Answers, examples: int, tail: float = TAIL
) -> tuple[float, float] | None:
    """The interval of a score; None where it tells nothing of how uncertain it is.

    Args:
        task: whose score it is.
        answers: what the task has kept of each example; empty where it keeps none.
        examples: that were measured.
        tail: probability that the truth lies beyond one end; as much for the other.

    Returns:
        Wilson's interval of a share of examples that are right, else that of the bootstrap.
    """
    if not math.isfinite(score):
        return None
    if task.metric.counts_examples:
        return share_interval(min(1.0, max(0.0, score)), examples, tail) if examples else None
    return OfResamples(task, {0: answers}, {0: score}).interval(0, tail) if answers else None


def certainty_of(
    scores: Mapping[int, float], task: type[TaskKind], examples: int, answers: Mapping[int, Answers]
) -> Certainty | None:
    """What can be said of differences of these scores; None where they tell nothing of it.

    Args:
        scores: of networks, by number.
        examples: that were measured.
        answers: what each network says of these; of an earlier version's networks nothing is known, and those of other
            examples do not tell.
    """
    are_known = scores.keys() <= answers.keys() and _are_of_the_same(task, [answers[number] for number in scores])
    if task.metric.counts_examples:
        if are_known and all("right" in answers[number] for number in scores):
            return OfPairs({number: answers[number]["right"] for number in scores})
        return OfShares(scores, examples) if examples else None
    return OfResamples(task, answers, scores) if are_known else None


def _are_of_the_same(task: type[TaskKind], answers: Sequence[Answers]) -> bool:
    """Whether networks answered for the same examples, as far as that can be told."""
    first = answers[0]
    shapes = {name: value.shape for name, value in first.items()}
    return (
        bool(first)
        and set(task.shared_answers) <= first.keys()
        and all(
            {name: value.shape for name, value in each.items()} == shapes
            and all(torch.equal(each[name], first[name]) for name in task.shared_answers)
            for each in answers[1:]
        )
    )


def kept_answers(task: type[TaskKind], folders: Mapping[int, Path]) -> dict[int, Answers]:
    """What networks said of the examples that they were judged by, from the folders of their trainings."""
    files = {number: folder / ANSWERS_FILE for number, folder in folders.items()}
    return {number: load_file(file) for number, file in files.items() if task.keeps_answers and file.is_file()}
