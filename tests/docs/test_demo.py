"""What is said of the demo is what its five seeds have reached."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
from tests.docs.intervals import half_width, is_said, possible_counts, wilson
from tests.pages import ROOT, Shown, numbers, table, text

PAGE = "docs/race.md"
KEPT: Any = json.loads((ROOT / "docs/results/demo.json").read_text())
HEADS = {"kept": "kept", "random": "random", "resnet18": "ResNet-18"}
IMAGES = 1000


def ahead(of: str, kept: Any = KEPT) -> list[float]:
    return [one - other for one, other in zip(kept["kept"], kept[of], strict=True)]


def test_rows_and_means_are_what_was_reached() -> None:
    found = table(PAGE, "ResNet-18", "winner")
    seeds = [str(seed) for seed in KEPT["seeds"]]
    for name, head in HEADS.items():
        assert found.column(head, seeds) == KEPT[name]
        assert found.entry("mean", head)[0].is_rounded(statistics.fmean(KEPT[name]))
    last = found.heads[-1]
    assert found.column(last, seeds) == KEPT["searched_ahead"]
    assert found.entry("mean", last)[0].is_rounded(statistics.fmean(KEPT["searched_ahead"]))


@pytest.mark.parametrize("page", [PAGE, "README.md"])
def test_leads_are_paired_by_seed(page: str) -> None:
    assert is_said(page, ahead("random"))
    assert is_said(page, KEPT["searched_ahead"])
    assert is_said(page, ahead("random", KEPT["in_darts_space"]))


def test_leads_over_resnet() -> None:
    assert is_said(PAGE, ahead("resnet18"))
    assert is_said(PAGE, ahead("resnet18", KEPT["in_darts_space"]))


def test_what_is_said_of_darts_space() -> None:
    page = text(PAGE)
    for scores in KEPT["in_darts_space"].values():
        assert ", ".join(map(str, scores)) in page


@pytest.mark.parametrize("page", [PAGE, "README.md"])
def test_how_long_it_takes(page: str) -> None:
    shortest, longest = (divmod(round(each), 60) for each in (min(KEPT["seconds"]), max(KEPT["seconds"])))
    assert f"{shortest[0]}:{shortest[1]:02} to {longest[0]}:{longest[1]:02} minutes" in text(page)


def test_the_readme_has_the_means() -> None:
    means = [f"{statistics.fmean(KEPT[name]):.1f}" for name in HEADS]
    assert "what is kept has {} %, a random cell of as many multiply-adds {}, ResNet-18 {}".format(*means) in text(
        "README.md"
    )


def test_each_interval_could_be_of_these_images() -> None:
    """Of the difference of two shares; of the two networks alone it is not narrower than the difference of means."""
    found = table(PAGE, "ResNet-18", "winner")
    for seed, kept in zip(KEPT["seeds"], KEPT["kept"], strict=True):
        for head in ("random", "ResNet-18"):
            share, low, high = numbers(found.rows[str(seed)][found.heads.index(head)])
            assert low.value < share.value - kept < high.value
            ends = wilson(possible_counts(Shown(kept, 1), IMAGES)[0], IMAGES)
            assert high.value - low.value > ends[1] - ends[0]


def test_means_of_races_are_shown_where_they_are() -> None:
    assert statistics.fmean(KEPT["searched_ahead"]) > half_width(KEPT["searched_ahead"])
