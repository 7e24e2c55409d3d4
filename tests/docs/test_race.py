"""What is said of races is what the tables of single seeds give."""

from __future__ import annotations

import math
import statistics

import pytest
from tests.docs.intervals import is_said, wilson
from tests.pages import numbers, table, text

RACE = "docs/race.md"


class TestRace:
    table = table(RACE, "the likeliest alone")
    seeds = ("0", "1", "2", "3", "4")

    def values(self, head: str) -> list[float]:
        return self.table.column(head, self.seeds)

    def less(self, first: str, second: str) -> list[float]:
        return [one - other for one, other in zip(self.values(first), self.values(second), strict=True)]

    @pytest.mark.parametrize("head", table.heads[1:7])
    def test_the_last_row_is_the_mean_of_those_above(self, head: str) -> None:
        assert self.table.entry("mean", head)[0].is_rounded(statistics.fmean(self.values(head)), given=2)

    def test_the_deviation_of_what_was_kept(self) -> None:
        kept = self.values("kept")
        assert f"- {statistics.fmean(kept):.2f} ± {statistics.stdev(kept):.2f};" in text(RACE)

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("mean of the 3 searched", "mean of the 3 others"),
            ("kept", "the likeliest alone"),
            ("kept", "best of the others, by the judge"),
        ],
    )
    def test_differences_are_paired_by_seed(self, first: str, second: str) -> None:
        assert is_said(RACE, self.less(first, second))

    def test_what_was_kept_beside_cells_of_its_size(self) -> None:
        ahead = [
            numbers(self.table.rows[seed][1])[0].value - size[0].value
            for seed in self.seeds
            if (size := self.table.entry(seed, "cells of its size"))
        ]
        assert "{:.1f} and {:.1f} less than what was kept".format(*ahead) in text(RACE)

    def test_other_pages_say_the_same(self) -> None:
        gain = self.less("mean of the 3 searched", "mean of the 3 others")
        assert is_said("README.md", gain)
        assert is_said("docs/which.md", gain)
        assert f"the kept cell has {statistics.fmean(self.values('kept')):.1f} % true accuracy" in text("README.md")


class TestRaceWithoutSearch:
    table = table(RACE, "kept without")
    seeds = ("0", "1", "2", "3", "4")

    def values(self, head: str) -> list[float]:
        return self.table.column(head, self.seeds)

    def test_what_was_kept_after_a_search_is_that_of_the_other_table(self) -> None:
        assert self.values("kept after a search") == TestRace.table.column("kept", self.seeds)

    @pytest.mark.parametrize("head", table.heads[1:])
    def test_the_last_row_is_the_mean_of_those_above(self, head: str) -> None:
        assert self.table.entry("mean", head)[0].is_rounded(statistics.fmean(self.values(head)), given=2)

    @pytest.mark.parametrize("page", [RACE, "README.md", "docs/which.md"])
    def test_the_lead_is_paired_by_seed(self, page: str) -> None:
        pairs = zip(self.values("kept after a search"), self.values("kept without"), strict=True)
        ahead = [one - other for one, other in pairs]
        assert ahead == pytest.approx(self.values("ahead"))
        assert is_said(page, ahead)


class TestRaceOnPhotographs:
    table = table(RACE, "ResNet-18")

    @pytest.mark.parametrize("seed", [str(seed) for seed in range(10)])
    @pytest.mark.parametrize("other", ["race of nine, no search", "random", "ResNet-18"])
    def test_intervals_of_pairs_hold_the_difference_and_are_the_narrower(self, seed: str, other: str) -> None:
        kept = self.table.entry(seed, "kept")[0].value
        score, *ends = (each.value for each in self.table.entry(seed, other))
        (low_1, high_1), (low_2, high_2) = wilson(round(10 * kept), 1000), wilson(round(10 * score), 1000)
        down, up = math.hypot(score - low_2, high_1 - kept), math.hypot(high_2 - score, kept - low_1)
        assert score - kept - down < ends[0] < score - kept < ends[1] < score - kept + up
        assert sum(ends) / 2 == pytest.approx(score - kept, abs=0.15)
