"""Every figure in the README stands on the page that is named beside it."""

from __future__ import annotations

import re

import pytest
from tests.pages import ROOT, Shown, numbers, text

LINK = re.compile(r"\]\((docs/[a-z]+\.md)[^)]*\)")
SMALL = 20
"""Whole numbers below are seeds, passes and the like, and stand on any page."""
_, _, _rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What was measured\n")
ITEMS = re.split(r"\n- ", _rest.partition("\n## ")[0])[1:]


def stands(shown: Shown, unit: float, there: list[Shown]) -> bool:
    """Whether a number is one of these, as it is or rounded, up to its sign."""
    return any(
        shown.is_rounded(abs(each.value) / scale) and (each.digits >= shown.digits or scale > 1)
        for each in there
        for scale in {1.0, unit}
    )


def lacking(item: str) -> list[float]:
    """The figures of an item that do not stand on its pages."""
    named = LINK.findall(item) or ["docs/results.md"]
    there = [each for page in named for each in numbers(text(page))]
    plain = re.sub(r"`[^`]*`", " ", LINK.sub(" ", item.replace("*", "")))
    found = []
    for each in re.finditer(r"\d[\d,]*(?:\.\d+)?( M\b)?", plain):
        shown = numbers(each[0])[0]
        is_figure = shown.digits > 0 or shown.value >= SMALL
        if is_figure and not stands(shown, 1e6 if each[1] else 1.0, there):
            found.append(shown.value)
    return found


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item[:50])
def test_figures_stand_on_the_page_that_is_named(item: str) -> None:
    assert not lacking(item)


def test_a_wrong_figure_is_noticed() -> None:
    assert len(ITEMS) > 8
    (fit,) = [item for item in ITEMS if "fit cifar10" in item]
    assert lacking(fit.replace("80.1 %", "80.3 %")) == [80.3]
