"""What is said of cells of equal multiply-adds is what the trainings in docs/results have reached."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from scipy.stats import t as student
from tests.docs.intervals import is_said
from tests.pages import ROOT, table, text

PAGE = "docs/race.md"
KEPT: Any = json.loads((ROOT / "docs/results/equal_macs.json").read_text())
SHARES = ("within 20 %", "within 60 %")
RANDOM = [statistics.fmean(pair) for pair in KEPT["random"]]
BETTER = [max(pair) for pair in KEPT["random"]]


def ahead(of: str, others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(KEPT["kept"][of], others, strict=True)]


def test_rows_are_what_was_reached() -> None:
    found = table(PAGE, *SHARES)
    for index, seed in enumerate(KEPT["seeds"]):
        reached = [KEPT["kept"][name][index] for name in ("within 60 %", "within 20 %", "likeliest")]
        assert [float(entry) for entry in found.rows[str(seed)][1:]] == [*reached, *KEPT["random"][index]]
    for head in found.heads[1:]:
        values = found.column(head, [str(seed) for seed in KEPT["seeds"]])
        assert found.entry("mean", head)[0].is_rounded(statistics.fmean(values), given=2)


@pytest.mark.parametrize("name", [*SHARES, "likeliest"])
def test_leads_over_random_cells_are_paired_by_seed(name: str) -> None:
    assert is_said(PAGE, ahead(name, RANDOM))
    assert f"the mean of a seed's two, {statistics.fmean(RANDOM):.2f} on average" in text(PAGE)


@pytest.mark.parametrize("name", SHARES)
def test_leads_of_smaller_cells(name: str) -> None:
    assert is_said(PAGE, ahead(name, KEPT["kept"]["likeliest"]))
    assert is_said(PAGE, ahead(name, BETTER))


def test_multiply_adds_differ_within_the_bound() -> None:
    counts = [statistics.fmean(KEPT["macs"][name]) for name in ("within 60 %", "within 20 %", "likeliest")]
    random = statistics.fmean(count for pair in KEPT["macs"]["random"] for count in pair)
    said = "on average {:.2f} M, {:.2f} M, {:.2f} M and, the random ones, {:.2f} M multiply-adds"
    assert said.format(*(count / 1e6 for count in (*counts, random))) in text(PAGE)
    assert max(count for name in SHARES for count in KEPT["macs"][name]) <= 3_000_000


@pytest.mark.parametrize(("data", "row"), [("cifar10", "CIFAR-10, 3 M"), ("omniglot", "Omniglot, 2 M")])
def test_what_is_said_of_one_search_in_darts_space(data: str, row: str) -> None:
    """Against a sixth random cell: t standard deviations of the five times sqrt(1 + 1/5)."""
    kept: Any = json.loads((ROOT / f"docs/results/equal_macs_{data}_small.json").read_text())
    (random,), order = kept["random"], ("likeliest", "within 60 %", "within 20 %")
    shown = table(PAGE, "of 60 %").rows[row][1:]
    assert [float(entry) for entry in shown] == [*(kept["kept"][name][0] for name in order), *random]
    reach = student.ppf(0.975, len(random) - 1) * statistics.stdev(random) * math.sqrt(1 + 1 / len(random))
    for name in order:
        mean = kept["kept"][name][0] - statistics.fmean(random)
        assert f"{mean:+.2f} [{mean - reach:+.2f}, {mean + reach:+.2f}]" in text(PAGE)
    assert kept["command"].split(" --out ")[0] in text(PAGE)


def test_other_pages_say_the_same() -> None:
    assert is_said("docs/which.md", ahead("within 20 %", RANDOM))
    readme = text("README.md")
    assert all(is_said("README.md", ahead(name, RANDOM)) for name in SHARES)
    small, middle = (statistics.fmean(KEPT["kept"][name]) for name in SHARES)
    assert f"have {small:.2f} and {middle:.2f} % test accuracy, random ones {statistics.fmean(RANDOM):.2f}:" in readme


def test_what_is_said_of_photographs() -> None:
    kept: Any = json.loads((ROOT / "docs/results/equal_macs_photos.json").read_text())
    random, page = [statistics.fmean(pair) for pair in kept["random"]], text(PAGE)
    for scores in kept["kept"].values():
        assert is_said(PAGE, [one - other for one, other in zip(scores, random, strict=True)])
    better = [max(pair) for pair in kept["random"]]
    assert is_said(PAGE, [one - other for one, other in zip(kept["kept"]["within 60 %"], better, strict=True)])
    means = [statistics.fmean(kept["kept"][name]) for name in ("within 60 %", "within 20 %", "likeliest")]
    said = "within 60 % {:.2f}, within 20 % {:.2f}, the likeliest {:.2f}, random cells {:.2f}"
    assert said.format(*means, statistics.fmean(random)) in page
    assert max(max(kept["macs"][name]) for name in SHARES) <= 1_500_000
    assert max(map(max, kept["macs"]["random"])) <= 1_500_000
