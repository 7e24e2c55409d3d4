"""Intervals of what fits have reached are those of their counts, and other pages repeat the same figures."""

from __future__ import annotations

import re
import statistics

import pytest
from tests.docs.intervals import possible_counts, wilson
from tests.pages import Shown, table, text

FIT = "docs/fit.md"
SHARE = re.compile(r"(\d+\.\d) %\s*\[(\d+\.\d), (\d+\.\d)\](?: on the ([\d,]+) test images)?")


@pytest.mark.parametrize("found", SHARE.findall(text(FIT)), ids=" ".join)
def test_an_interval_of_a_fit_is_wilsons(found: tuple[str, str, str, str]) -> None:
    share, *ends = map(Shown.of, found[:3])
    count = int(found[3].replace(",", "")) if found[3] else 300  # the folder's fifth
    assert any(
        all(end.is_rounded(exact) for end, exact in zip(ends, wilson(right, count), strict=True))
        for right in possible_counts(share, count)
    )


@pytest.mark.parametrize("fit", table(FIT, "test images").rows)
def test_an_interval_in_the_table_is_wilsons(fit: str) -> None:
    fits = table(FIT, "test images")
    (share,), ends, (images,) = (fits.entry(fit, head) for head in ("test accuracy", "interval", "test images"))
    assert any(
        all(end.is_rounded(exact) for end, exact in zip(ends, wilson(right, int(images.value)), strict=True))
        for right in possible_counts(share, int(images.value))
    )


def test_the_mean_lead_of_searched_cells_is_that_of_the_table() -> None:
    races = [row for row in table(FIT, "test images").rows.values() if row[6]]
    mean = statistics.fmean(float(row[6]) - float(row[7]) for row in races)
    count = ("six", "seven", "eight")[len(races) - 6]
    assert f"over the {count} the searched cell is behind the random one by {-mean:.1f} points" in text(FIT)


def test_a_fit_is_said_alike_everywhere() -> None:
    fits = table(FIT, "test images")
    ten, other, third, long = (fits.rows[f"CIFAR-10, {fit}"][2] for fit in ("10m, 0", "10m, 1", "10m, 2", "30m, 0"))
    assert f"seed 0, two quiet cores: {ten} % test accuracy" in text("README.md")
    assert f"(seeds 1 and 2: {other} and {third};" in text("README.md")
    assert f"--time 30m`, likewise: {long} %" in text("README.md")
    sizes = table(FIT, "`--train.channels`")
    said = [row[3].removesuffix(" %") for row in sizes.rows.values()]
    assert f"channels were best, {said[1]} %; 8 channels for 18 passes had {said[0]}, 32" in text("docs/which.md")
    assert f"at ten passes it cost {float(said[1]) - float(said[2]):.1f} points there" in text("docs/which.md")
