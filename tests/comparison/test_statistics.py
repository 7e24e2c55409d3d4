from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datanas.comparison.statistics import Difference, interval, paired, summarise, winner

SCORES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)
FEW = 500  # resamples where their number does not matter


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


class TestInterval:
    def test_is_that_of_a_bootstrap_by_hand(self) -> None:
        values = np.array([90.0, 91.5, 93.0, 92.2, 88.7])
        means = values[np.random.default_rng(1).integers(0, 5, (200_000, 5))].mean(1)
        assert interval(values, confidence=0.9) == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.05)

    def test_of_every_resample_of_two(self) -> None:
        """A quarter of the resamples are (0, 0), a quarter (1, 1): the rest lies inside."""
        assert interval([0.0, 1.0]) == (0.0, 1.0)
        assert interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)

    def test_is_the_same_again_and_another_with_another_seed(self) -> None:
        values = np.random.default_rng(0).normal(size=9).tolist()
        assert interval(values, resamples=FEW) == interval(values, resamples=FEW)
        assert interval(values, resamples=FEW) != interval(values, resamples=FEW, seed=1)

    def test_of_one_value_is_not_a_number(self) -> None:
        assert np.isnan(interval([3.0])).all()

    def test_of_equal_values_is_that_value(self) -> None:
        assert interval([0.1, 0.1, 0.1]) == (0.1, 0.1)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_refuses_what_is_not_finite(self, bad: float) -> None:
        with pytest.raises(ValueError, match=f"values must be finite, got {bad}"):
            interval([1.0, bad])

    def test_refuses_nothing_and_odd_confidences(self) -> None:
        with pytest.raises(ValueError, match="at least one value"):
            interval([])
        for confidence in (0.0, 1.0, 95):
            with pytest.raises(ValueError, match=f"between 0 and 1, got {confidence}"):
                interval([1.0, 2.0], confidence=confidence)

    @settings(max_examples=40, deadline=None)
    @given(SCORES)
    def test_stays_within_the_data_around_the_mean(self, values: list[float]) -> None:
        low, high = interval(values, resamples=FEW)
        assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
        assert low - 1e-9 <= np.mean(values) <= high + 1e-9


class TestPaired:
    def test_is_at_least_student_s_interval(self) -> None:
        differences = [0.5, 0.9, -0.1, 0.7, 0.6]
        found = paired(by_seed(*differences), by_seed(*[0.0] * 5))
        expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert (found.mean, found.pairs, found.confidence) == (pytest.approx(0.52), 5, 0.95)

    def test_is_at_least_the_bootstrap_s_interval(self) -> None:
        """Where one value stands far out, the bootstrap reaches further on its side."""
        differences = [0.0] * 99 + [100.0]
        found = paired(by_seed(*differences), by_seed(*[0.0] * 100))
        student = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert found.low == pytest.approx(student.low)
        assert found.high == interval(differences)[1] > student.high

    def test_covers_where_the_bootstrap_does_not(self) -> None:
        """Five normal differences around zero; the bootstrap alone is the negative control."""
        generator = np.random.default_rng(0)
        covered = {"paired": 0, "bootstrap": 0}
        for sample in generator.normal(size=(300, 5)):
            found = paired(by_seed(*sample), by_seed(*[0.0] * 5), resamples=FEW)
            low, high = interval(sample, resamples=FEW)
            covered["paired"] += found.verdict == "no difference shown"
            covered["bootstrap"] += low <= 0 <= high
        assert covered["paired"] >= 0.93 * 300
        assert covered["bootstrap"] <= 0.88 * 300

    def test_five_differences_of_one_sign_are_not_enough(self) -> None:
        differences = [0.01, 0.02, 0.01, 0.9, 0.05]
        assert interval(differences)[0] > 0
        assert paired(by_seed(*differences), by_seed(*[0.0] * 5)).verdict == "no difference shown"

    def test_leaves_out_seeds_that_one_side_lacks(self) -> None:
        found = paired({0: 1.0, 1: 2.0, 2: 3.5, 7: 1e6}, {2: 1.0, 1: 1.0, 0: 0.5, 9: -1e6})
        assert found == paired({0: 1.0, 1: 2.0, 2: 3.5}, {0: 0.5, 1: 1.0, 2: 1.0})
        assert (found.pairs, found.mean) == (3, pytest.approx(4 / 3))

    def test_pairs_by_seed_and_not_by_order(self) -> None:
        found = paired({0: 1.0, 1: 5.0, 2: 9.0}, {2: 8.0, 0: 0.1, 1: 4.1})
        assert found.verdict == "better"

    @pytest.mark.parametrize(("higher_is_better", "verdict"), [(True, "better"), (False, "worse")])
    def test_verdict_depends_on_the_direction(self, higher_is_better: bool, verdict: str) -> None:
        found = paired(by_seed(5.0, 5.1, 5.2), by_seed(1.0, 1.2, 1.1), higher_is_better=higher_is_better)
        assert found.mean == pytest.approx(4.0)
        assert found.verdict == verdict

    @pytest.mark.parametrize("pairs", [0, 1])
    def test_fewer_than_two_pairs_show_nothing(self, pairs: int) -> None:
        found = paired(by_seed(*[9.0] * pairs), by_seed(1.0, 1.0, 1.0))
        assert found.verdict == "no difference shown"
        assert found.as_json() == {
            "mean": 8.0 if pairs else None,
            "low": None,
            "high": None,
            "pairs": pairs,
            "verdict": "no difference shown",
        }

    @pytest.mark.parametrize("against", [[0.2, 0.3, 0.4], [0.1, 0.2, 0.3]])
    def test_equal_differences_have_no_interval(self, against: list[float]) -> None:
        """0.3 - 0.2 and 0.4 - 0.3 are no more alike than rounding lets them be."""
        found = paired(by_seed(0.3, 0.4, 0.5), by_seed(*against))
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert found.verdict == "no difference shown"

    def test_refuses_what_is_not_finite(self) -> None:
        with pytest.raises(ValueError, match="must be finite"):
            paired(by_seed(1.0, math.nan), by_seed(1.0, 2.0))

    @settings(max_examples=40, deadline=None)
    @given(SCORES)
    def test_swapping_sides_turns_the_sign(self, values: list[float]) -> None:
        zero = by_seed(*[0.0] * len(values))
        forth, back = paired(by_seed(*values), zero, resamples=FEW), paired(zero, by_seed(*values), resamples=FEW)
        assert (back.mean, back.low, back.high) == pytest.approx((-forth.mean, -forth.high, -forth.low), nan_ok=True)

    @settings(max_examples=40, deadline=None)
    @given(SCORES)
    def test_higher_confidence_never_narrows(self, values: list[float]) -> None:
        zero = by_seed(*[0.0] * len(values))
        low, high = (paired(by_seed(*values), zero, confidence=each, resamples=FEW) for each in (0.9, 0.99))
        assert math.isnan(low.low) or (high.low <= low.low + 1e-9 and low.high <= high.high + 1e-9)

    def test_is_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Difference(1.0, 0.5, 1.5, 5, 0.95).mean = 2.0  # type: ignore[misc]


EGS = by_seed(93.0, 93.2, 93.1, 93.3, 92.9)
DARTS = by_seed(91.0, 91.3, 91.0, 91.4, 90.8)
SNAS = by_seed(90.1, 90.2, 90.4, 90.3, 90.0)


class TestWinner:
    def test_is_decided_against_every_other(self) -> None:
        found = winner({"darts": DARTS, "egs": EGS, "snas": SNAS})
        assert (found.decided, found.best, found.runner_up) == (True, "egs", "darts")
        assert found.text.startswith("egs is best (+2 [")
        assert "against darts at 97.5 %" in found.text

    def test_is_the_lowest_where_lower_is_better(self) -> None:
        found = winner({"darts": DARTS, "egs": EGS, "snas": SNAS}, higher_is_better=False)
        assert (found.best, found.runner_up) == ("snas", "darts")
        assert found.decided

    def test_ties_are_not_decided(self) -> None:
        near = by_seed(93.2, 93.0, 93.2, 93.1, 92.9)
        found = winner({"egs": EGS, "snas": SNAS, "near": near, "same": EGS})
        assert not found.decided
        assert found.best == "egs"
        assert found.text == "no difference shown between egs and same, near"

    def test_asks_more_the_more_are_compared(self) -> None:
        """A difference that is shown among two is not among five."""
        behind = {seed: score - step for (seed, score), step in zip(EGS.items(), (1, 2, 0.4, 1.6, 0.3), strict=True)}
        assert winner({"egs": EGS, "a": behind}).decided
        assert not winner({"egs": EGS, **dict.fromkeys("abcd", behind)}).decided

    def test_is_seldom_decided_among_equals(self) -> None:
        generator = np.random.default_rng(0)
        columns = ({name: by_seed(*generator.normal(size=5)) for name in "abcd"} for _ in range(200))
        assert sum(winner(each, resamples=FEW).decided for each in columns) <= 0.05 * 200

    def test_one_seed_decides_nothing(self) -> None:
        found = winner({"egs": {0: 99.0}, "darts": {0: 1.0}})
        assert not found.decided
        assert found.text == "no difference shown between egs and darts (fewer than two seeds in common)"

    def test_names_those_with_too_few_seeds(self) -> None:
        found = winner({"egs": EGS, "darts": DARTS, "gdas": {}, "near": by_seed(93.0, 93.1, 93.0)})
        assert not found.decided
        assert found.text.endswith("between egs and near, gdas (fewer than two seeds in common with gdas)")

    def test_a_lead_from_seeds_that_the_other_lacks_is_none(self) -> None:
        lucky = {0: 92.0, 1: 92.1, 2: 92.3, 3: 100.0, 4: 100.0}
        found = winner({"egs": {0: 93.0, 1: 93.2, 2: 93.1}, "lucky": lucky})
        assert not found.decided
        assert found.text == "no winner: lucky leads by its mean, but is worse than egs on the seeds of both"

    @pytest.mark.parametrize(
        ("columns", "best", "text"),
        [
            ({}, None, "nothing to compare"),
            ({"egs": EGS}, "egs", "nothing to compare egs with"),
            ({"egs": {}, "darts": {}}, None, "no difference shown between egs, darts: none has a score"),
        ],
    )
    def test_without_anything_to_compare(self, columns: Any, best: str | None, text: str) -> None:
        found = winner(columns)
        assert (found.decided, found.best, found.runner_up, found.text) == (False, best, None, text)


def row(name: str, scores: dict[int, float], kind: str = "method", **figures: Any) -> dict[str, Any]:
    seeds = {
        str(seed): {"score": score, **{key: values[seed] for key, values in figures.items()}}
        for seed, score in scores.items()
    }
    return {"name": name, "kind": kind, "note": "", "seeds": seeds}


class TestSummarise:
    def test_fills_in_every_row(self) -> None:
        rows = [row("egs", EGS, same_size_score=SNAS, shuffled_score=EGS), row("random", DARTS, "control")]
        rows[0]["seeds"]["9"] = {"failed": "out of memory"}
        done = summarise(rows, "random")
        egs, random = done["rows"]
        values = list(EGS.values())
        assert (egs["mean"], egs["sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        assert (egs["low"], egs["high"]) == interval(values)
        assert egs["difference"] == paired(EGS, DARTS).as_json()
        assert egs["same_size"] == paired(EGS, SNAS).as_json()
        assert egs["shuffled"]["verdict"] == "no difference shown"
        assert (random["difference"], random["same_size"], random["shuffled"]) == (None, None, None)
        assert "mean" not in rows[0]

    def test_what_loses_to_a_control_is_no_winner(self) -> None:
        rows = [row("egs", DARTS), row("darts", SNAS), row("random", EGS, "control"), row("low", SNAS, "control")]
        found = summarise(rows, "random")["winner"]
        assert (found["decided"], found["best"]) == (False, "egs")
        assert found["text"].endswith("not shown to be better than random (worse)")

    @pytest.mark.parametrize("figure", ["same_size_score", "shuffled_score"])
    def test_what_its_own_controls_reach_is_no_victory(self, figure: str) -> None:
        controls: dict[str, Any] = {figure: EGS}
        rows = [row("egs", EGS, **controls), row("darts", DARTS), row("random", SNAS, "control")]
        found = summarise(rows, "random")["winner"]
        assert not found["decided"]
        assert "no difference shown" in found["text"]
        assert summarise([row("egs", EGS, **dict(controls, **{figure: SNAS})), *rows[1:]], "random")["winner"][
            "decided"
        ]

    def test_an_ablation_does_not_compete(self) -> None:
        rows = [row("egs_l1", EGS, "ablation"), row("egs", DARTS), row("darts", SNAS)]
        found = summarise(rows, None)
        assert (found["winner"]["decided"], found["winner"]["best"]) == (True, "egs")
        assert found["rows"][0]["mean"] == pytest.approx(np.mean(list(EGS.values())))

    def test_a_winner_above_chance_needs_no_reserve(self) -> None:
        rows = [row("egs", EGS), row("darts", DARTS), row("random", SNAS, "control")]
        assert "but" not in summarise(rows, "random")["winner"]["text"]

    def test_passes_the_direction_on(self) -> None:
        rows = [row("egs", EGS), row("random", SNAS, "control")]
        for higher_is_better, verdict in ((True, "better"), (False, "worse")):
            done = summarise(rows, "random", higher_is_better=higher_is_better)
            assert done["rows"][0]["difference"]["verdict"] == verdict

    def test_of_one_seed_and_of_none(self) -> None:
        one, none = summarise([row("egs", {0: 93.0}), row("darts", {})], None)["rows"]
        assert (one["mean"], one["sd"], one["low"], one["high"], one["difference"]) == (93.0, None, None, None, None)
        assert none["mean"] is None

    def test_refuses_what_it_cannot_tell_apart(self) -> None:
        with pytest.raises(ValueError, match="two rows are named 'egs'"):
            summarise([row("egs", EGS), row("egs", DARTS)], None)
        with pytest.raises(ValueError, match=r"no row is named 'random', .*did you mean 'random cells'"):
            summarise([row("random cells", EGS)], "random")
        with pytest.raises(ValueError, match="egs, seed 1: score must be finite, got nan"):
            summarise([row("egs", by_seed(1.0, math.nan))], None)
