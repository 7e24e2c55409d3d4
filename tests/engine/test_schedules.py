"""Learning rates at the ends, in the middle and while warming up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from datanas.engine.schedules import cosine, learning_rate, polynomial, set_learning_rate
from datanas.engine.sections import SGDConfig


@pytest.mark.parametrize(
    ("progress", "value"),
    [(0.0, 0.4), (0.5, 0.25), (1.0, 0.1), (0.25, 0.1 + 0.3 * (1 + math.sqrt(0.5)) / 2), (-1.0, 0.4), (2.0, 0.1)],
)
def test_the_cosine_goes_from_end_to_end(progress: float, value: float) -> None:
    assert cosine(progress, 0.4, 0.1) == pytest.approx(value)


def test_the_cosine_never_rises() -> None:
    values = [cosine(step / 50, 0.4, 0.1) for step in range(51)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 51


def test_without_warm_up_the_rate_is_the_cosine() -> None:
    settings = SGDConfig(lr=0.1, lr_min=0.01)
    for epoch in (0, 1, 2.5, 10):
        assert learning_rate(settings, epoch, 10) == cosine(epoch / 10, 0.1, 0.01)


def test_the_rate_warms_up_linearly_and_then_falls() -> None:
    settings = SGDConfig(lr=0.1, lr_min=0.01, warm_up_epochs=2)
    rates = [learning_rate(settings, epoch, 10) for epoch in (0, 0.5, 1, 2, 6, 10)]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.1, 0.055, 0.01])


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_warm_up_as_long_as_the_training_only_rises(epochs: int) -> None:
    settings = SGDConfig(lr=0.1, warm_up_epochs=2)
    rates = [learning_rate(settings, epochs * step / 10, epochs) for step in range(10)]
    assert rates == sorted(rates)
    assert rates[-1] < 0.1


def test_every_group_gets_the_rate() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = torch.optim.SGD(groups, 0.3)
    set_learning_rate(optimizer, 0.05)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]


@pytest.mark.parametrize(("epoch", "rate"), [(0.0, 0.0), (1.0, 0.05), (2.0, 0.1), (5.0, 0.1), (10.0, 0.1)])
def test_a_constant_rate_stays_after_the_warm_up(epoch: float, rate: float) -> None:
    settings = SGDConfig(lr=0.1, lr_min=0.01, schedule="constant", warm_up_epochs=2)
    assert learning_rate(settings, epoch, 10) == pytest.approx(rate)


def test_the_polynomial_falls_to_its_end() -> None:
    assert [polynomial(share, 0.5, 0.1, 2.0) for share in (-1.0, 0.0, 0.5, 1.0, 2.0)] == pytest.approx(
        [0.5, 0.5, 0.2, 0.1, 0.1]
    )


def test_poly_follows_the_polynomial_after_the_warm_up() -> None:
    settings = SGDConfig(lr=0.1, lr_min=0.0, schedule="poly", power=0.9, warm_up_epochs=1)
    rates = [learning_rate(settings, epoch, 11) for epoch in (0.5, 1, 6, 11)]
    assert rates == pytest.approx([0.05, 0.1, 0.1 * 0.5**0.9, 0.0])


def test_step_falls_every_so_many_epochs() -> None:
    settings = SGDConfig(lr=0.1, schedule="step", decay=0.2, decay_every=100)
    rates = [learning_rate(settings, epoch, 300) for epoch in (0, 99.9, 100, 199, 200, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004])
