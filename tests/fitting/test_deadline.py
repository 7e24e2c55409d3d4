"""A training that follows its time: machines that change their speed, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from datanas.fitting.deadline import Deadline

WHOLE = 600.0


def trained(epochs: int, seconds: float, speed: Callable[[int], float], most: int = 100) -> tuple[int, float]:
    """How many epochs a training makes that has so many seconds, and when it ends.

    Args:
        speed: seconds of an epoch, by its number from 1.
    """
    now = 0.0
    deadline = Deadline(WHOLE, lambda: seconds - now, most, lambda: now)
    deadline.begin()
    epoch = 0
    while epoch < epochs:
        epoch += 1
        now += speed(epoch)
        if epoch < epochs:
            before, epochs = epochs, deadline.revise(epoch, epochs)
            assert epoch < epochs
            assert epochs <= max(before, most)
    return epochs, now


def test_a_machine_that_keeps_its_speed_makes_what_was_planned() -> None:
    assert trained(10, 300, lambda epoch: 29.0) == (10, 290.0)


@pytest.mark.parametrize("slow", [1.3, 2.0, 4.0])
@pytest.mark.parametrize("since", [1, 2, 5])
def test_a_machine_that_becomes_slow_makes_fewer_and_is_hardly_late(slow: float, since: int) -> None:
    epochs, ended = trained(10, 300, lambda epoch: 29.0 * (slow if epoch >= since else 1))
    assert epochs < 10
    assert ended <= 300 + 0.03 * WHOLE + slow * 29.0 / 2  # what the mean of two epochs does not know yet


def test_one_that_becomes_fast_early_makes_more() -> None:
    epochs, ended = trained(10, 300, lambda epoch: 29.0 if epoch < 3 else 15.0)
    assert epochs > 14
    assert 270 <= ended <= 300


def test_one_that_becomes_fast_late_ends_early() -> None:
    assert trained(10, 300, lambda epoch: 29.0 if epoch < 9 else 5.0)[0] == 10


def test_not_more_than_the_most_is_made() -> None:
    assert trained(10, 300, lambda epoch: 3.0, most=12)[0] == 12


def test_a_little_time_that_is_left_changes_nothing() -> None:
    assert trained(10, 300, lambda epoch: 28.0)[0] == 10


def test_one_epoch_more_is_made_however_late_it_is() -> None:
    assert trained(10, 300, lambda epoch: 29.0 if epoch < 6 else 1000.0)[0] == 7
