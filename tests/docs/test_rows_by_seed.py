"""Means and deviations in tables of README and the pages are those of the values by seed in the same row."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator

import pytest
from tests.pages import Shown, Table, numbers, pages, tables

SEED = re.compile(r"\d+")


def rows_by_seed() -> Iterator[tuple[Table, str, list[Shown]]]:
    """Of every page the rows that have values by seed and their mean."""
    for page in pages():
        for found in tables(page):
            seeds = [place for place, head in enumerate(found.heads) if SEED.fullmatch(head)]
            if len(seeds) < 2 or not any(head.startswith("mean") for head in found.heads):
                continue
            for name, row in found.rows.items():
                values = [numbers(row[place])[0] for place in seeds if row[place]]
                yield found, name, values


ROWS = list(rows_by_seed())


def test_there_are_rows_by_seed() -> None:
    assert len(ROWS) >= 19


@pytest.mark.parametrize(("found", "name", "values"), ROWS, ids=[f"{each[0].page} {each[1]}" for each in ROWS])
def test_a_row_has_the_mean_of_its_seeds(found: Table, name: str, values: list[Shown]) -> None:
    exact, digits = [each.value for each in values], values[0].digits
    for head, entry in zip(found.heads, found.rows[name], strict=True):
        shown = numbers(entry)
        if head.startswith("mean") and shown:
            assert shown[0].is_rounded(statistics.fmean(exact), given=digits)
            if "sd" in head:
                assert shown[1].is_rounded(statistics.stdev(exact), given=digits)
        if head == "median" and shown:
            assert shown[0].is_rounded(statistics.median(exact), given=digits)
