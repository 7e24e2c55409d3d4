"""How large a race is: what fits into a time, by hand."""

from __future__ import annotations

import pytest

from datanas.core.errors import ConfigError
from datanas.racing.plan import Pace, Plan, Rung, make_plan, rungs_of

PACE = Pace(steps=50, step=0.1, rest=2.0, workers=2)


@pytest.mark.parametrize(
    ("candidates", "rungs"),
    [(27, [(27, 2), (9, 6), (3, 18)]), (18, [(18, 2), (6, 6), (2, 18)]), (9, [(9, 2), (3, 6)]), (6, [(6, 2), (2, 6)])],
)
def test_one_of_three_goes_on_for_three_times_as_long(candidates: int, rungs: list[tuple[int, int]]) -> None:
    assert [(rung.candidates, rung.epochs) for rung in rungs_of(candidates, 2)] == rungs


def test_trainings_run_side_by_side_and_each_has_a_start() -> None:
    # Two waves of three epochs: 3 x 50 x 0.1 s x 1.3 and 2 s for the rest.
    assert PACE.seconds([Rung(3, 3)]) == pytest.approx(2 * (19.5 + 2.0))


@pytest.mark.parametrize(("steps", "epochs"), [(10, 10), (50, 2), (99, 2), (400, 2), (33, 4)])
def test_a_first_rung_has_two_epochs_and_a_hundred_steps(steps: int, epochs: int) -> None:
    assert Pace(steps, 0.1, 2.0, 1).fewest_epochs == epochs


def test_candidates_and_epochs_that_are_given_leave_nothing_to_the_time() -> None:
    assert make_plan(PACE, 1.0, 6, 3).rungs == rungs_of(6, 3)
    assert make_plan(PACE, 5000.0, None, 3).rungs[0].epochs == 3
    with pytest.raises(ConfigError, match="are too few"):
        make_plan(PACE, 1.0, None, 3)


@pytest.mark.parametrize("seconds", [200, 400, 1000, 5000])
def test_a_plan_fits_its_time_and_neither_more_epochs_nor_candidates_would(seconds: float) -> None:
    plan = make_plan(PACE, seconds)
    first = plan.rungs[0]
    assert PACE.seconds(plan.rungs) == plan.seconds
    assert PACE.seconds(plan.rungs) <= seconds
    assert PACE.seconds(rungs_of(first.candidates, first.epochs + 1)) > seconds
    larger = [size for size in (6, 9, 12, 18, 27) if size > first.candidates]
    assert all(PACE.seconds(rungs_of(size, PACE.fewest_epochs)) > seconds for size in larger)


def test_a_number_of_candidates_that_was_asked_for_is_kept() -> None:
    assert make_plan(PACE, 5000, 7).rungs[0].candidates == 7


def test_too_short_a_time_is_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match=r"10 s are too few for 6 candidates and 2 epochs, which take about 86 s"):
        make_plan(PACE, 10)


def test_the_smallest_race_is_held_where_nobody_said_how_long_it_may_take() -> None:
    assert make_plan(PACE, 10, is_bound=False).rungs == rungs_of(6, PACE.fewest_epochs)
    assert make_plan(PACE, 10, 9, 4, is_bound=False).rungs == rungs_of(9, 4)
    assert make_plan(PACE, 400, is_bound=False) == make_plan(PACE, 400)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = make_plan(PACE, 400)
    assert Plan.from_json(plan.to_json()) == plan
