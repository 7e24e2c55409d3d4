"""Which step of a search does what, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from datanas.core.settings import validate
from datanas.engine.sections import SearchConfig
from datanas.engine.timetable import Timetable


def times(steps_per_epoch: int = 4, *, learns: bool = True, **settings: Any) -> Timetable:
    return Timetable(validate(SearchConfig, settings, "search"), steps_per_epoch, learns=learns)


def test_progress_is_the_share_of_the_steps_behind_it() -> None:
    made = times(epochs=5)
    assert [made.progress(step) for step in (0, 1, 10, 20)] == [0, 1 / 20, 1 / 2, 1]
    assert made.epochs == 5


def test_progress_begins_after_pre_training() -> None:
    made = times(epochs=5, pretrain_epochs=2)
    assert made.epochs == 7
    assert [made.progress(step) for step in (0, 7, 8, 9, 28)] == [0, 0, 0, 1 / 20, 1]


def test_the_first_epochs_pre_train() -> None:
    made = times(epochs=5, pretrain_epochs=2)
    assert [made.pretrains(step) for step in (0, 7, 8, 27)] == [True, True, False, False]
    assert not times().pretrains(0)


@pytest.mark.parametrize(
    ("steps", "made"),
    [("1:1", [1, 1, 1, 1, 1, 1]), ("3:1", [1, 0, 0, 1, 0, 0]), ("2:3", [3, 0, 3, 0, 3, 0])],
)
def test_alpha_steps_are_made_in_turn_with_weight_steps(steps: str, made: list[int]) -> None:
    found = times(steps=steps)
    assert [found.alpha_steps(step) for step in range(6)] == made
    assert found.turn == int(steps[0])


def test_alpha_waits_for_its_share_of_the_search() -> None:
    made = times(epochs=5, alpha_start=0.25)
    assert [made.alpha_steps(step) for step in (0, 4, 5, 6)] == [0, 0, 1, 1]


def test_alpha_waits_for_the_end_of_pre_training() -> None:
    made = times(epochs=5, pretrain_epochs=1)
    assert [made.alpha_steps(step) for step in (0, 3, 4)] == [0, 0, 1]


def test_a_method_that_does_not_learn_makes_no_alpha_step() -> None:
    assert [times(learns=False).alpha_steps(step) for step in range(4)] == [0, 0, 0, 0]


def test_the_rate_of_the_weights_falls_from_end_to_end_and_waits_with_progress() -> None:
    weights = {"lr": 0.4, "schedule": "cosine", "lr_min": 0.1}
    made = times(epochs=5, pretrain_epochs=2, weights=weights)
    assert [made.weight_rate(step) for step in (0, 8, 18, 28)] == pytest.approx([0.4, 0.4, 0.25, 0.1])


def test_the_rate_of_the_weights_warms_up_by_epochs() -> None:
    made = times(epochs=5, weights={"lr": 0.4, "schedule": "constant", "warm_up_epochs": 2})
    assert made.weight_rate(4) == pytest.approx(made.weight_rate(8) / 2)
