"""How a figure is read and shown."""

from __future__ import annotations

import pytest

from datanas.tasks.metric import Metric

SHARE = Metric("accuracy")
NUMBER = Metric("perplexity", is_share=False, higher_is_better=False)


def test_oriented_values_are_higher_for_the_better() -> None:
    assert SHARE.oriented(0.9) > SHARE.oriented(0.8)
    assert NUMBER.oriented(80.0) > NUMBER.oriented(90.0)


@pytest.mark.parametrize(
    ("metric", "value", "digits", "text"),
    [
        (SHARE, 0.9123, None, "91.2%"),
        (SHARE, 0.9123, 2, "91.23%"),
        (NUMBER, 85.27, None, "85.3"),
        (NUMBER, 85.27, 0, "85"),
        (Metric("bits", is_share=False, digits=4), 1.23456, None, "1.2346"),
    ],
)
def test_a_value_is_shown_in_per_cent_only_if_it_is_a_share(
    metric: Metric, value: float, digits: int | None, text: str
) -> None:
    assert metric.show(value, digits) == text


def test_a_difference_of_shares_is_told_in_points() -> None:
    assert SHARE.show_difference(-0.0123) == "-1.2 points"
    assert NUMBER.show_difference(1.26) == "+1.3"
    assert Metric("rmse", is_share=False, digits=4).show_difference(0.0213) == "+0.0213"
    assert SHARE.show_interval(0.0123, -0.01, 0.04) == "+1.2 [-1.0, +4.0]"
    assert Metric("rmse", is_share=False, digits=3).show_interval(0.02, -0.01, 0.0512) == "+0.020 [-0.010, +0.051]"
    assert (SHARE.scale, NUMBER.scale) == (100.0, 1.0)
