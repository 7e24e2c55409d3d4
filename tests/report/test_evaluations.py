"""Networks side by side: intervals of differences, and what the table claims."""

from __future__ import annotations

import pytest

from datanas.core.shares import share_interval
from datanas.report.evaluations import Measured, ahead_of, evaluation_table, evaluation_verdict


def share(name: str, right: int, examples: int, ahead: tuple[float, float, float] | None = None) -> Measured:
    value = right / examples
    shown = "" if ahead is None else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*ahead)
    interval = share_interval(value, examples)
    return Measured(name, f"{value:.1%}", value, 1234, 5_600_000, interval, ahead, "89 to 91", shown)


def test_without_single_examples_the_difference_is_newcombes() -> None:
    # Statistics in Medicine 17 (1998), "Interval estimation for the difference", Table II, method 10: 56/70 less 48/80.
    assert ahead_of(share("b", 48, 80), share("a", 56, 70)) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_with_them_it_is_what_is_given() -> None:
    assert ahead_of(share("b", 48, 80), share("a", 56, 80, (0.1, 0.02, 0.18))) == (0.02, 0.18)


def test_a_lower_score_is_ahead_where_that_is_better() -> None:
    low, high = (Measured(name, "", value, 1, 1, (value - 2, value + 2)) for name, value in (("a", 80), ("b", 90)))
    found = ahead_of(high, low, higher_is_better=False)
    assert found is not None
    assert 0 < found[0] < 10 < found[1]
    assert evaluation_verdict([high, low], higher_is_better=False) == "a better than b"
    assert evaluation_verdict([high, low]) == "b better than a"


def test_a_difference_that_is_shown_is_claimed() -> None:
    rows = [
        share("kept", 900, 1000),
        share("random", 800, 1000, (-0.1, -0.13, -0.07)),
        share("other", 895, 1000, (-0.005, -0.02, 0.01)),
        share("large", 950, 1000, (0.05, 0.03, 0.07)),
    ]
    head, first, second, *_, claim = evaluation_table(rows, "accuracy").splitlines()
    assert claim == "large better than kept; kept better than random; no difference shown to other"
    assert "ahead of the first by" in head
    assert "89 to 91" in first
    assert "[" not in first
    assert "-0.10 [-0.13, -0.07]" in second


def test_scores_that_do_not_say_how_uncertain_they_are_have_no_interval() -> None:
    table = evaluation_table([Measured(name, "50", 50.0, 1, 1) for name in ("kept", "random")], "perplexity")
    assert "95 %" not in table
    assert "shown" not in table
    assert len(table.splitlines()) == 3


def test_a_network_of_which_nothing_is_known_hides_nothing_of_the_others() -> None:
    rows = [share("kept", 900, 1000), share("random", 800, 1000, (-0.1, -0.13, -0.07))]
    lost = Measured("lost", "inf", float("inf"), 1, 1)
    *lines, last, claim = evaluation_table([*rows, lost], "perplexity").splitlines()
    assert "89 to 91" in lines[1]
    assert last.split() == ["lost", "inf", "1", "0.0", "M"]
    assert claim == "kept better than random; nothing can be said of lost"


def test_one_network_alone_is_compared_with_none() -> None:
    table = evaluation_table([share("kept", 900, 1000)], "accuracy")
    assert "ahead" not in table
    assert len(table.splitlines()) == 2
