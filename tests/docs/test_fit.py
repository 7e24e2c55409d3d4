"""Intervals of what fits have reached are those of their counts, and other pages repeat the same figures."""

from __future__ import annotations

import re

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


def test_a_fit_is_said_alike_everywhere() -> None:
    first = SHARE.findall(text(FIT))[0][0]
    assert f"seed 0, two quiet cores: {first} % test accuracy" in text("README.md")
    sizes = table(FIT, "`--train.channels`")
    said = [row[3].removesuffix(" %") for row in sizes.rows.values()]
    assert f"channels were best, {said[1]} %; 8 channels for 18 passes had {said[0]}, 32" in text("docs/which.md")
    assert f"at ten passes it cost {float(said[1]) - float(said[2]):.1f} points there" in text("docs/which.md")
