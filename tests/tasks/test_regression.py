"""Numbers of an image: standardised inside, told in their own units."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from datanas.core.settings import validate
from datanas.tasks.regression import NumberHead, Regression
from datanas.testing.tiny_data import tiny_numbers

CPU = torch.device("cpu")


def task(**settings: Any) -> Regression:
    return Regression(validate(Regression.Config, settings, "task"), tiny_numbers(), CPU, 0)


def test_figures_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    found, truth = torch.randn(2, 40, 3, generator=generator)
    figures = task().figures(found, truth)
    pair = truth.numpy(), found.numpy()
    assert figures["rmse"] == pytest.approx(root_mean_squared_error(*pair), rel=1e-5)
    assert figures["mae"] == pytest.approx(mean_absolute_error(*pair), rel=1e-5)
    assert figures["r2"] == pytest.approx(r2_score(*pair), rel=1e-5)


def test_the_loss_does_not_know_the_units() -> None:
    """The mean of the targets as the answer has a loss of 1, whatever the targets are."""
    made = task()
    targets = made.data.train_targets
    mean = targets.mean(dim=0).expand_as(targets)
    torch.testing.assert_close(made.distance(mean, targets), torch.tensor(1.0))
    assert made.distance(targets, targets) == 0


def test_the_head_answers_in_the_units_of_the_targets_from_the_start() -> None:
    made = task()
    head = made.make_head((4,), made.make_stem(2)).eval()
    assert isinstance(head, NumberHead)
    outputs = head((torch.randn(200, 4, 3, 3),))
    assert isinstance(outputs, torch.Tensor)
    assert (outputs.mean(dim=0) - made.data.train_targets.mean(dim=0)).abs().max() < 1
    assert "offset" in head.state_dict()
    assert "offset" not in dict(head.named_parameters())


def test_an_auxiliary_tower_answers_in_the_same_units() -> None:
    made = task()
    head = made.make_head((6, 4), made.make_stem(2)).train()
    outputs = head((torch.randn(8, 6, 8, 8), torch.randn(8, 4, 4, 4)))
    assert all((each.mean() - made.data.train_targets.mean()).abs() < 2 for each in outputs)


def test_the_lower_error_is_preferred() -> None:
    assert task().selection_score({"rmse": 1.0}) > task().selection_score({"rmse": 2.0})
