"""What is said of cells of equal size is what the searches in docs/results have kept."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
from tests.docs.intervals import half_width, is_said
from tests.pages import ROOT, numbers, table

PAGE = "docs/default.md"
COUNTS = ("1", "2", "3", "4", "5")
KEPT: Any = json.loads((ROOT / "docs/results/equal_size.json").read_text())


def ahead(variant: str, count: str, of: str) -> list[float]:
    case = KEPT["variants"][variant][count]
    return [kept - other for kept, other in zip(case["kept"], case[of], strict=True)]


def over_all(variant: str, of: str) -> list[float]:
    by_count = [ahead(variant, count, of) for count in COUNTS]
    return [statistics.fmean(each) for each in zip(*by_count, strict=True)]


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_means_over_seeds(count: str) -> None:
    found = table(PAGE, "3x3 convolutions")
    case = KEPT["variants"]["egs"][count]
    shown = [found.entry(count, head)[0] for head in ("kept", "random", "best of 4", "best")]
    exact = [statistics.fmean(case[name]) for name in ("kept", "random", "best of 4", "best")]
    assert all(one.is_rounded(other, given=3) for one, other in zip(shown, exact, strict=True))
    assert found.entry(count, "better than")[0].is_rounded(100 * statistics.fmean(case["better than"]), given=1)
    mean, low, high = numbers(found.rows[count][-1])
    gains = ahead("egs", count, "random")
    half = half_width(gains)
    for one, other in zip((mean, low, high), (0.0, -half, half), strict=True):
        assert one.is_rounded(statistics.fmean(gains) + other, given=3, times=4)


@pytest.mark.parametrize(("variant", "of"), [("egs", "random"), ("egs", "best of 4"), ("start", "random")])
def test_leads_over_all_bounds_are_paired_by_seed(variant: str, of: str) -> None:
    assert is_said(PAGE, over_all(variant, of))


def test_other_pages_say_the_same() -> None:
    for page in ("README.md", "docs/which.md"):
        assert is_said(page, over_all("egs", "random"))
