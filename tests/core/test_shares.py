"""Intervals of shares: against published figures, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanas.core.shares import paired_difference, share_interval


@pytest.mark.parametrize(
    ("right", "count", "expected"), [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))]
)
def test_the_interval_of_a_share_is_wilsons(right: int, count: int, expected: tuple[float, float]) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), Table I, method 3."""
    assert share_interval(right / count, count) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [(20, 10, (-0.00724, 0.20332)), (60, 5, (0.42338, 0.65506)), (0, 0, (-0.0192, 0.0192))],
)
def test_the_paired_interval_by_hand(first: int, other: int, expected: tuple[float, float]) -> None:
    """Of 100: with 1/2 more in each cell d = (b - c) / 102, its variance (b + c + 1 - 102 d^2) / 102^2."""
    assert paired_difference(first, other, 100) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.8), (0.98, 0.95)])
def test_the_paired_interval_holds_as_often_as_it_says_and_is_the_narrower(shares: tuple[float, float]) -> None:
    """Of networks that err on the same examples mostly."""
    rng, count = np.random.default_rng(0), 300
    first, other = shares
    others = 0.3 * (1 - first)  # of which the other is right alone
    alone = first - other + others
    as_independent = 2 * 1.96 * np.sqrt((first * (1 - first) + other * (1 - other)) / count)
    held, widths = 0, []
    for _ in range(2000):
        cells = rng.multinomial(count, [alone, others, 1 - alone - others])
        low, high = paired_difference(int(cells[0]), int(cells[1]), count)
        held += low <= first - other <= high
        widths.append(high - low)
    assert 0.94 * 2000 <= held <= 0.99 * 2000
    assert np.mean(widths) < 0.9 * as_independent


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_other_way_round_it_is_mirrored(first: int, other: int, neither: int) -> None:
    count = first + other + neither
    if not count:
        with pytest.raises(ValueError, match="no parts of 0 examples"):
            paired_difference(0, 0, 0)
        return
    low, high = paired_difference(first, other, count)
    assert low < (first - other) / (count + 2) < high
    mirrored = paired_difference(other, first, count)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high))
    assert high - low <= np.subtract(*paired_difference(first, other, count, 0.001)[::-1])


@pytest.mark.parametrize(
    ("share", "count", "tail"), [(1.5, 10, 0.025), (0.5, 0, 0.025), (0.5, 10, 0.5), (0.5, 10, 0.0)]
)
def test_what_is_no_share_is_refused(share: float, count: int, tail: float) -> None:
    with pytest.raises(ValueError, match=r"a share lies in|tail must lie"):
        share_interval(share, count, tail)
