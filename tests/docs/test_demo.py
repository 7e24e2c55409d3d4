"""What is said of the demo is what its seeds have reached."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
from tests.docs.intervals import half_width, is_said
from tests.pages import ROOT, numbers, table, text

PAGE = "docs/race.md"
KEPT: Any = json.loads((ROOT / "docs/results/demo.json").read_text())
FIRST = KEPT["first"]
HEADS = {"kept": "kept", "raced": "race of nine, no search", "random": "random", "resnet18": "ResNet-18"}
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
    for name, ends in KEPT["ahead_ends"].items():
        for seed, (low, high) in zip(seeds, ends, strict=True):
            shown = numbers(found.rows[seed][found.heads.index(HEADS[name])])
            assert [each.value for each in shown[1:]] == [low, high]
    assert found.entry("mean", last)[0].is_rounded(statistics.fmean(KEPT["searched_ahead"]))


@pytest.mark.parametrize("page", [PAGE, "README.md"])
def test_leads_are_paired_by_seed(page: str) -> None:
    assert is_said(page, ahead("random"))
    assert is_said(page, KEPT["searched_ahead"])
    assert is_said(page, ahead("raced"))
    assert is_said(page, ahead("random", FIRST))
    assert is_said(page, ahead("random", KEPT["in_darts_space"]))


def test_what_is_not_shown_is_called_so() -> None:
    for name in ("random", "raced"):
        assert abs(statistics.fmean(ahead(name))) < half_width(ahead(name))
    assert "not shown to be better than a random cell" in text(PAGE)
    low, high = zip(*KEPT["ahead_ends"]["random"], strict=True)
    assert (sum(each < 0 for each in high), sum(each > 0 for each in low)) == (3, 3)


def test_what_is_said_of_the_first_run() -> None:
    for name in ("kept", "random", "resnet18"):
        assert ", ".join(map(str, FIRST[name])) in text(PAGE)
    apart = [abs(one - other) for one, other in zip(FIRST["resnet18"], KEPT["resnet18"], strict=False)]
    assert f"up to {max(apart):.1f} points from the table" in text(PAGE)
    assert is_said(PAGE, FIRST["searched_ahead"])


def test_leads_over_resnet() -> None:
    assert is_said(PAGE, ahead("resnet18"))
    assert is_said(PAGE, ahead("resnet18", KEPT["in_darts_space"]))


def test_what_is_said_of_darts_space() -> None:
    page = text(PAGE)
    for scores in KEPT["in_darts_space"].values():
        assert ", ".join(map(str, scores)) in page


@pytest.mark.parametrize("page", [PAGE, "README.md"])
def test_how_long_it_takes(page: str) -> None:
    shortest, longest = (divmod(round(each), 60) for each in (min(FIRST["seconds"]), max(FIRST["seconds"])))
    assert f"{shortest[0]}:{shortest[1]:02} to {longest[0]}:{longest[1]:02} minutes" in text(page)


def test_what_it_costs() -> None:
    means = {name: statistics.fmean(each) for name, each in KEPT["core_seconds"].items()}
    assert f"({means['race of nine']:.0f} seconds of one core on average" in text(PAGE)
    assert f"together {means['search and race of six']:.0f})" in text(PAGE)


def test_the_readme_has_the_means() -> None:
    kept, raced, random, reference = (f"{statistics.fmean(KEPT[name]):.1f}" for name in HEADS)
    readme = text("README.md")
    assert f"what is kept has {kept} %, a random cell of as many multiply-adds {random}" in readme
    assert f"kept {kept} % test accuracy, a random cell {random}" in readme
    assert f"without a search keeps {raced}" in readme
    assert readme.count(f"ResNet-18 {reference}") == 2


def test_means_of_races_are_shown_where_they_are() -> None:
    assert statistics.fmean(KEPT["searched_ahead"]) > half_width(KEPT["searched_ahead"])
