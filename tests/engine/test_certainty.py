"""Intervals of scores and of differences by the bootstrap: against scipy's, against the truth, and from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from sklearn.metrics import root_mean_squared_error
from torch import Tensor

from datanas.core.shares import independent_difference, paired_difference, share_interval
from datanas.engine.certainty import (
    ANSWERS_FILE,
    OfPairs,
    OfResamples,
    OfShares,
    certainty_of,
    kept_answers,
    score_interval,
)
from datanas.engine.evaluation import Evaluation, _ahead_on_others
from datanas.racing.outcome import Trained, guarantee, leads
from datanas.tasks.classification import Classification
from datanas.tasks.fewshot import FewShot
from datanas.tasks.language import Language
from datanas.tasks.metric import Metric
from datanas.tasks.multilabel import Multilabel
from datanas.tasks.regression import Regression
from datanas.tasks.segmentation import Segmentation


def regression(*errors: Tensor) -> OfResamples:
    """Networks that err so much, each of shape (n, k)."""
    answers = {number: {"outputs": each, "targets": torch.zeros_like(each)} for number, each in enumerate(errors)}
    ones = torch.ones(1, len(errors[0]), dtype=torch.float64)
    scores = {number: Regression.resampled_scores(each, ones).item() for number, each in answers.items()}
    return OfResamples(Regression, answers, scores)


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Errors of two networks that are alike, most of it on the same examples."""
    generator = torch.Generator().manual_seed(seed)
    common, *own = torch.randn(3, count, 1, generator=generator)
    return common + 0.3 * own[0], common + 0.3 * own[1]


def test_the_interval_is_that_of_scipy() -> None:
    first, other = drawn(300, 0)
    other = 1.1 * other
    found = regression(first, other).difference(0, 1, 0.025)
    assert found is not None

    def difference(a: Any, b: Any) -> float:
        return root_mean_squared_error(b, np.zeros_like(b)) - root_mean_squared_error(a, np.zeros_like(a))

    pair = first[:, 0].numpy(), other[:, 0].numpy()
    expected = stats.bootstrap(
        pair, difference, paired=True, vectorized=False, method="percentile", n_resamples=2000, rng=0
    ).confidence_interval
    assert found[0] == pytest.approx(difference(*pair), rel=1e-5)
    width = expected.high - expected.low
    assert found[1:] == pytest.approx((expected.low, expected.high), abs=0.1 * width)


def test_it_holds_as_often_as_it_says_and_pairing_makes_it_narrow() -> None:
    held, widths = 0, []
    for seed in range(200):
        found = regression(*drawn(150, seed)).difference(0, 1, 0.025)
        assert found is not None
        held += found[1] <= 0 <= found[2]
        widths.append(found[2] - found[1])
    assert 0.91 * 200 <= held <= 0.99 * 200
    unpaired = regression(drawn(150, 0)[0], drawn(150, 1)[1]).difference(0, 1, 0.025)
    assert unpaired is not None
    assert np.mean(widths) < 0.7 * (unpaired[2] - unpaired[1])


def test_a_lower_error_is_ahead_and_the_other_way_round_behind() -> None:
    first, other = drawn(300, 0)
    certainty = regression(first, 2 * other)
    ahead, behind = certainty.difference(0, 1, 0.025), certainty.difference(1, 0, 0.025)
    assert ahead is not None
    assert behind is not None
    assert 0 < ahead[1] < ahead[0] < ahead[2]
    assert behind == pytest.approx((-ahead[0], -ahead[2], -ahead[1]))


def test_the_same_answers_have_the_same_interval_again() -> None:
    first, second = (regression(*drawn(60, 3)).difference(0, 1, 0.01) for _ in range(2))
    assert first == second


def test_of_what_is_not_finite_nothing_is_said() -> None:
    first, other = drawn(60, 0)
    other[5] = torch.nan
    assert regression(first, other).difference(0, 1, 0.025) is None
    assert OfShares({0: 0.5, 1: float("nan")}, 60).difference(0, 1, 0.025) is None


def test_a_race_of_errors_says_what_is_more_than_chance() -> None:
    first, other = drawn(400, 0)
    certainty = regression(first, other, 2 * other)
    rung = {number: Trained(score, -score, 1, 1, 1) for number, score in certainty.scores.items()}
    winner = min(rung, key=lambda number: rung[number].score)
    found = leads(rung, certainty)
    assert winner not in found
    assert found[2] is not None
    assert found[2][1] > 0
    bound, words = guarantee(rung, Regression, certainty)
    assert bound is not None
    assert 0 <= bound < 0.1
    assert f"within {bound:.4f} of the best finalist" in words
    assert "the judge's 400" in words


def test_answers_are_read_from_the_folders_of_the_trainings(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(50, 3, generator=generator) < 0.4).float()
    folders = {number: tmp_path / str(number) for number in range(2)}
    for number, folder in folders.items():
        folder.mkdir()
        outputs = targets * (3 - 2 * number) + torch.randn(50, 3, generator=generator)
        save_file({"outputs": outputs, "targets": targets}, folder / ANSWERS_FILE)
    scores = {0: 0.95, 1: 0.7}
    found = certainty_of(scores, Multilabel, 50, kept_answers(Multilabel, folders))
    assert found is not None
    assert found.examples == 50
    lead = found.difference(0, 1, 0.025)
    assert lead is not None
    assert lead[0] == pytest.approx(0.25)
    assert lead[1] > 0
    (folders[1] / ANSWERS_FILE).unlink()
    assert certainty_of(scores, Multilabel, 50, kept_answers(Multilabel, folders)) is None


def test_shares_need_no_answers_and_other_scores_say_nothing_without() -> None:
    assert certainty_of({0: 0.5, 1: 0.4}, Classification, 9, {}) == OfShares({0: 0.5, 1: 0.4}, 9)
    assert certainty_of({0: 90.0, 1: 80.0}, Language, 9, {0: {}, 1: {}}) is None
    assert score_interval(Classification, 0.9, {}, 50) == share_interval(0.9, 50)
    assert score_interval(Language, 90.0, {}, 50) is None


def test_shares_of_known_examples_are_compared_pair_by_pair() -> None:
    right = torch.tensor([[1, 1, 1, 1, 0, 0, 1, 1], [1, 1, 0, 0, 0, 1, 0, 1]], dtype=torch.uint8)
    found = certainty_of({0: 0.75, 1: 0.5}, Classification, 8, {0: {"right": right[0]}, 1: {"right": right[1]}})
    assert isinstance(found, OfPairs)
    assert found.examples == 8
    assert found.difference(0, 1, 0.025) == pytest.approx((0.25, *paired_difference(3, 1, 8)))
    assert found.difference(1, 0, 0.1) == pytest.approx((-0.25, *paired_difference(1, 3, 8, 0.1)))


def test_networks_of_other_examples_are_not_compared_pair_by_pair() -> None:
    """Such as episodes that another seed has drawn, or another test set."""
    one = {"accuracy": torch.tensor([0.5, 0.7]), "episodes": torch.tensor([3, 4])}
    other = {"accuracy": torch.tensor([0.4, 0.7]), "episodes": torch.tensor([3, 5])}
    scores = {0: 0.6, 1: 0.55}
    assert certainty_of(scores, FewShot, 2, {0: one, 1: other}) is None
    assert certainty_of(scores, FewShot, 2, {0: one, 1: {**other, "episodes": one["episodes"]}}) is not None
    right = [{"right": torch.ones(count, dtype=torch.uint8)} for count in (4, 5)]
    assert isinstance(certainty_of({0: 1.0, 1: 1.0}, Classification, 4, dict(enumerate(right))), OfShares)


def test_where_examples_differ_scores_are_compared_as_independent() -> None:
    first, second = (Evaluation(value, None, 1.0, 1, 1, interval=(value - 2, value + 3)) for value in (90.0, 80.0))
    low, high = independent_difference(80.0, (78.0, 83.0), 90.0, (88.0, 93.0))
    assert _ahead_on_others(second, first, Metric("accuracy")) == (-10.0, low, high)
    assert _ahead_on_others(second, first, Metric("perplexity", higher_is_better=False)) == (10.0, -high, -low)
    assert _ahead_on_others(replace(second, interval=None), first, Metric("accuracy")) is None


def test_of_few_examples_the_bootstrap_says_nothing() -> None:
    few = {number: each[:19] for number, each in enumerate(drawn(200, 0))}
    certainty = regression(*few.values())
    assert certainty.difference(0, 1, 0.025) is None
    assert score_interval(Regression, 1.0, certainty.answers[0], 19) is None
    assert regression(*(each[:20] for each in drawn(200, 0))).difference(0, 1, 0.025) is not None


def test_of_many_numbers_there_are_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.engine.certainty._WORK", 300 * 2 * 200)
    found = regression(*drawn(200, 0))
    assert {len(each) for each in found._resampled.values()} == {300}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1.0000001])
def test_a_share_that_is_none_is_told_by_no_interval(score: float) -> None:
    found = score_interval(Classification, score, {}, 50)
    assert found == (share_interval(1.0, 50) if np.isfinite(score) else None)
    assert certainty_of({0: 0.5, 1: 0.4}, Classification, 0, {}) is None


def test_the_interval_of_one_score_is_that_of_scipy() -> None:
    errors = drawn(200, 1)[0]
    answers = {"outputs": errors, "targets": torch.zeros_like(errors)}
    score = float(errors.double().square().mean().sqrt())
    found = score_interval(Regression, score, answers, 200)
    assert found is not None
    assert found[0] < score < found[1]
    values = errors[:, 0].double().numpy()
    expected = stats.bootstrap(
        (values,), lambda x: np.sqrt(np.mean(x**2)), vectorized=False, method="percentile", n_resamples=2000, rng=0
    ).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.1 * width)


def test_a_perplexity_is_resampled_by_stretches_of_text() -> None:
    words = torch.tensor([10, 10, 10, 4])
    answers = {"nats": torch.tensor([20.0, 30.0, 25.0, 9.0], dtype=torch.float64), "words": words}
    counts = torch.tensor([[1.0, 1, 1, 1], [2, 0, 0, 1]], dtype=torch.float64)
    expected = torch.tensor([84 / 34, 49 / 24], dtype=torch.float64).exp()
    torch.testing.assert_close(Language.resampled_scores(answers, counts), expected)
    endless = {"nats": torch.tensor([torch.inf, 1.0]), "words": torch.tensor([3, 3])}
    assert score_interval(Language, float("inf"), endless, 2) is None


def test_a_mean_overlap_leaves_out_classes_that_a_choice_has_not() -> None:
    """As figures of images do, of which the two here have class 0, and the second class 1 besides."""
    regions = torch.tensor([[[3, 0], [4, 0], [3, 0]], [[1, 2], [2, 3], [2, 3]]])
    counts = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
    found = Segmentation.resampled_scores({"regions": regions}, counts)
    assert found.tolist() == pytest.approx([3 / 4, (1 / 3 + 2 / 4) / 2, (4 / 7 + 2 / 4) / 2])
