"""What a race says: order, guarantee and comparison, against figures worked out by hand and by simulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from datanas.engine.certainty import OfShares
from datanas.lookup import architecture
from datanas.racing.candidates import Candidate
from datanas.racing.outcome import Trained, guarantee, leads, order, searched_against_random, table
from datanas.racing.trainings import _trained
from datanas.tasks.classification import Classification
from datanas.tasks.language import Language
from datanas.tasks.regression import Regression


def trained(score: float, macs: int = 1, selection_score: float | None = None) -> Trained:
    return Trained(score, score if selection_score is None else selection_score, 10, macs, 4)


def judged(rung: dict[int, Trained], examples: int) -> tuple[dict[int, Trained], type[Classification], OfShares]:
    return rung, Classification, OfShares({number: each.score for number, each in rung.items()}, examples)


def test_the_best_comes_first_and_of_equals_the_cheaper() -> None:
    assert order({0: trained(0.5, 9), 1: trained(0.7), 2: trained(0.5, 3), 3: trained(0.5, 9)}) == [1, 2, 0, 3]
    assert order({0: trained(90.0, selection_score=-90.0), 1: trained(80.0, selection_score=-80.0)}) == [1, 0]


def test_scores_that_are_not_finite_come_last_and_are_not_compared() -> None:
    rung = {0: trained(np.nan, 1), 1: trained(np.inf, 1), 2: trained(0.5, 9), 3: trained(0.7, 9), 4: trained(0.6, 9)}
    assert order(rung) == [3, 4, 2, 0, 1]
    rung[5] = trained(0.65)
    figures, _ = searched_against_random(rung, candidates(6), Classification)
    assert figures is None  # one searched candidate is left


def test_what_a_training_has_written_is_read_where_its_score_is_not_finite(tmp_path: Path) -> None:
    found = {"score": "inf", "preference": "-inf", "parameters": 3, "macs": 4, "channels": 5}
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    assert _trained(tmp_path) == Trained(np.inf, -np.inf, 3, 4, 5)


def test_the_bound_is_the_upper_end_of_the_difference_to_the_others() -> None:
    bound, text = guarantee(*judged({0: trained(0.8), 1: trained(0.79), 2: trained(0.6)}, 1000))
    z = stats.norm.ppf(1 - 0.05 / 2)
    assert bound == pytest.approx(-0.01 + z * np.sqrt((0.8 * 0.2 + 0.79 * 0.21) / 1000))
    assert "within 2.5 points" in text


def test_a_clear_winner_is_within_nothing() -> None:
    assert guarantee(*judged({0: trained(0.9), 1: trained(0.2)}, 1000))[0] == 0.0


def test_the_lead_over_each_other_holds_together_with_that_over_the_rest() -> None:
    rung, _, certainty = judged({0: trained(0.8), 1: trained(0.79), 2: trained(0.6)}, 1000)
    found = leads(rung, certainty)
    z = stats.norm.ppf(1 - 0.025 / 2)
    reach = z * np.sqrt((0.8 * 0.2 + 0.79 * 0.21) / 1000)
    assert found[1] == pytest.approx((0.01, 0.01 - reach, 0.01 + reach))
    assert found[2] is not None
    assert found[2][1] > 0
    assert leads(rung, None) == {1: None, 2: None}


def test_of_one_that_has_diverged_nothing_is_said() -> None:
    rung, task, certainty = judged({0: trained(0.8), 1: trained(np.nan), 2: trained(0.6)}, 1000)
    assert leads(rung, certainty)[1] is None
    assert guarantee(rung, task, certainty)[0] == 0.0


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Finalists of nearly the same truth, judged on 400 examples: the winner is within the bound 95 times of 100."""
    rng, truths, held = np.random.default_rng(0), [0.7, 0.72, 0.74], 0
    for _ in range(400):
        scores = rng.binomial(400, truths) / 400
        rung = {number: trained(score) for number, score in enumerate(scores)}
        bound, _ = guarantee(*judged(rung, 400))
        assert bound is not None
        held += max(truths) - truths[order(rung)[0]] <= bound
    assert held >= 0.95 * 400


def test_a_score_that_counts_nothing_has_no_bound_and_says_why() -> None:
    bound, text = guarantee({0: trained(80.0), 1: trained(90.0)}, Language, None)
    assert bound is None
    assert "perplexity" in text


def candidates(count: int) -> list[Candidate]:
    return [Candidate(architecture("gdas"), "searched", is_searched=number < 3) for number in range(count)]


def test_searched_and_other_candidates_are_compared_by_welch() -> None:
    scores = [0.8, 0.82, 0.81, 0.7, 0.75, 0.72]
    rung = {number: trained(score) for number, score in enumerate(scores)}
    found, text = searched_against_random(rung, candidates(6), Classification)
    assert found is not None
    expected = stats.ttest_ind(scores[:3], scores[3:], equal_var=False).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["verdict"] == "better"
    assert text.endswith("better")


def test_an_interval_with_zero_shows_nothing() -> None:
    rung = {number: trained(score) for number, score in enumerate([0.8, 0.7, 0.6, 0.8, 0.7, 0.61])}
    found, text = searched_against_random(rung, candidates(6), Classification)
    assert found is not None
    assert found["verdict"] == "no difference shown"
    assert "no difference shown" in text


def test_where_lower_is_better_a_lower_mean_is_better() -> None:
    rung = {
        number: trained(score, selection_score=-score)
        for number, score in enumerate([80.0, 81.0, 82.0, 95.0, 96.0, 97.0])
    }
    found, _ = searched_against_random(rung, candidates(6), Language)
    assert found is not None
    assert found["verdict"] == "better"


def test_a_difference_has_the_digits_of_its_score() -> None:
    rung = {number: trained(score) for number, score in enumerate([0.50, 0.51, 0.52, 0.52, 0.53, 0.54])}
    assert "first rung: -0.0200 [" in searched_against_random(rung, candidates(6), Regression)[1]


def test_one_of_a_kind_says_nothing() -> None:
    rung = {0: trained(0.8), 3: trained(0.7), 4: trained(0.6)}
    assert searched_against_random(rung, candidates(6), Classification)[0] is None


def test_the_table_begins_with_the_winner_and_shows_every_rung() -> None:
    rungs = [{0: trained(0.5), 1: trained(0.6), 2: trained(0.7)}, {1: trained(0.9), 2: trained(0.8)}]
    rows = table(candidates(3), rungs, Classification)
    assert [row[0] for row in rows] == ["", "1", "2", "0"]
    assert rows[1][-2:] == ["60.0%", "90.0%"]
    assert rows[3][-1] == ""
