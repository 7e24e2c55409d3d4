"""Which networks no other beats, and what searching has gained at equal bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanas.racing.front import RANDOM, SEARCHED, Point, front, gain, table
from datanas.racing.outcome import Trained
from datanas.tasks import tasks

CLASSIFICATION = tasks["classification"]


def point(number: int, cost: float, score: float, origin: str = SEARCHED, bound: float = 1.0) -> Point:
    return Point(number, origin, bound, cost, Trained(score, score, 1000, 2_000_000, 16))


points = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12).map(
    lambda pairs: [point(number, float(cost), score / 10) for number, (cost, score) in enumerate(pairs)]
)


def beats(one: Point, other: Point) -> bool:
    at_least = one.cost <= other.cost and one.trained.score >= other.trained.score
    return at_least and (one.cost, one.trained.score) != (other.cost, other.trained.score)


@given(points)
def test_the_front_is_what_nothing_beats(found: list[Point]) -> None:
    unbeaten = {(p.cost, p.trained.score) for p in found if not any(beats(other, p) for other in found)}
    assert {(p.cost, p.trained.score) for p in front(found)} == unbeaten
    assert len(front(found)) == len(unbeaten)


def test_of_equal_ones_the_first_is_on_the_front() -> None:
    assert [p.number for p in front([point(1, 2.0, 0.5), point(0, 2.0, 0.5)])] == [0]


def test_a_score_that_is_not_finite_is_not_on_the_front() -> None:
    assert [p.number for p in front([point(0, 1.0, np.nan), point(1, 2.0, 0.5)])] == [1]


def test_a_gain_is_the_mean_over_bounds_of_searched_less_random() -> None:
    found = [
        point(place, 1.0, score, origin, bound)
        for place, (bound, origin, score) in enumerate(
            [(1, SEARCHED, 0.6), (1, RANDOM, 0.5), (1, RANDOM, 0.4), (2, SEARCHED, 0.7), (2, RANDOM, 0.6)]
        )
    ]
    figures, sentence = gain(found, RANDOM, CLASSIFICATION)
    assert figures is not None
    # Differences .15 and .10: mean .125, and t_{.975}(1) = 12.706 times .025 / 1.
    assert figures["mean"] == pytest.approx(0.125)
    assert figures["high"] - figures["mean"] == pytest.approx(
        12.7062 * np.std([0.15, 0.1], ddof=1) / np.sqrt(2), rel=1e-4
    )
    assert figures["verdict"] == "no difference shown"
    assert "+12.5" in sentence


def test_a_gain_that_is_shown_is_called_better() -> None:
    scores = [(1, 0.60, 0.50), (2, 0.71, 0.60), (3, 0.80, 0.71)]
    found = [
        point(0, 1.0, score, origin, bound)
        for bound, ours, others in scores
        for origin, score in ((SEARCHED, ours), (RANDOM, others))
    ]
    figures, _ = gain(found, RANDOM, CLASSIFICATION)
    assert figures is not None
    assert figures["verdict"] == "better"
    swapped = [replace(p, origin=RANDOM if p.origin == SEARCHED else SEARCHED) for p in found]
    figures, _ = gain(swapped, RANDOM, CLASSIFICATION)
    assert figures is not None
    assert figures["verdict"] == "worse"


def test_where_the_likeliest_stays_the_same_it_counts_at_the_higher_bound_too() -> None:
    found = [point(0, 1.0, 0.5, bound=1), point(1, 1.0, 0.4, RANDOM, 1), point(2, 2.0, 0.6, RANDOM, 2)]
    figures, _ = gain(found, RANDOM, CLASSIFICATION)
    assert figures is not None
    assert figures["pairs"] == 2
    assert figures["mean"] == pytest.approx(0.0)


def test_two_equal_gains_are_not_shown_by_rounding_alone() -> None:
    found = [
        point(0, 1.0, a, o, b)
        for b, o, a in ((1, SEARCHED, 0.6), (1, RANDOM, 0.5), (2, SEARCHED, 0.8), (2, RANDOM, 0.7))
    ]
    figures, _ = gain(found, RANDOM, CLASSIFICATION)
    assert figures is not None
    assert figures["verdict"] == "no difference shown"


def test_of_one_bound_nothing_is_said() -> None:
    figures, sentence = gain([point(0, 1.0, 0.5), point(1, 1.0, 0.4, RANDOM)], RANDOM, CLASSIFICATION)
    assert figures is None
    assert "fewer than two bounds" in sentence


def test_the_table_marks_the_front_and_orders_by_bound() -> None:
    found = [point(0, 2e6, 0.6, bound=2e6), point(1, 1e6, 0.7, RANDOM, 1e6), point(2, 1e6, 0.5, bound=1e6)]
    rows = table(found, "multiply-adds", 400, CLASSIFICATION)
    assert [row[1] for row in rows[1:]] == [SEARCHED, RANDOM, SEARCHED]
    assert [row[-1] for row in rows[1:]] == ["", "*", ""]
    assert rows[2][-2] == "65.3 to 74.3"  # Wilson's interval of 280 in 400
