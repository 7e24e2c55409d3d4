"""Intervals of differences by the paired bootstrap: against scipy's, against the truth, and from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from sklearn.metrics import root_mean_squared_error
from torch import Tensor

from datanas.engine.evaluation import ANSWERS_FILE
from datanas.racing.certainty import OfResamples, OfShares, certainty_of
from datanas.racing.outcome import Trained, guarantee, leads
from datanas.tasks.classification import Classification
from datanas.tasks.language import Language
from datanas.tasks.multilabel import Multilabel
from datanas.tasks.regression import Regression


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
    found = certainty_of(scores, Multilabel, 50, folders)
    assert found is not None
    assert found.examples == 50
    lead = found.difference(0, 1, 0.025)
    assert lead is not None
    assert lead[0] == pytest.approx(0.25)
    assert lead[1] > 0
    (folders[1] / ANSWERS_FILE).unlink()
    assert certainty_of(scores, Multilabel, 50, folders) is None


def test_shares_need_no_answers_and_other_scores_say_nothing(tmp_path: Path) -> None:
    folders = {0: tmp_path, 1: tmp_path}
    assert certainty_of({0: 0.5, 1: 0.4}, Classification, 9, folders) == OfShares({0: 0.5, 1: 0.4}, 9)
    assert certainty_of({0: 90.0, 1: 80.0}, Language, 9, folders) is None
