"""Networks side by side: intervals against published figures, and what the table claims."""

from __future__ import annotations

import pytest

from datanas.report.evaluations import Measured, difference, evaluation_table


def share(name: str, right: int, examples: int | None) -> Measured:
    value = right / (examples or 100)
    return Measured(name, f"{value:.1%}", value, 1234, 5_600_000, examples)


def test_the_interval_is_wilson_s() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3.
    for right, examples, expected in [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))]:
        assert share("x", right, examples).interval == pytest.approx(expected, abs=1e-4)


def test_the_difference_is_newcombe_s() -> None:
    # The same, "Interval estimation for the difference", Table II, method 10: 56/70 less 48/80.
    assert difference(share("b", 48, 80), share("a", 56, 70)) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_a_difference_that_is_shown_is_claimed() -> None:
    table = evaluation_table(
        [share("kept", 900, 1000), share("random", 800, 1000), share("other", 895, 1000)], "accuracy"
    )
    assert table.splitlines()[-1] == "kept better than random; no difference shown to other"
    assert "kept" in table.splitlines()[1]
    assert "to the first" in table


def test_a_better_other_network_is_named() -> None:
    assert "random better than kept" in evaluation_table(
        [share("kept", 500, 1000), share("random", 700, 1000)], "accuracy"
    )


def test_scores_that_count_nothing_have_no_interval() -> None:
    table = evaluation_table([share("kept", 50, None), share("random", 60, None)], "perplexity")
    assert "95 %" not in table
    assert "shown" not in table
    assert len(table.splitlines()) == 3
