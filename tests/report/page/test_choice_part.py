"""What a report says of a race, a comparison and a fit, from files such as these write."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.report.page.blocks import Chart, Table
from datanas.report.page.choice_part import comparison_sections, race_sections
from datanas.report.page.folder import Folder
from datanas.report.page.terms import Terms
from datanas.runs.overview import overview

ROW = {"parameters": 1000, "macs": 2_000_000, "channels": 4}
RACE = {
    "winner": 2,
    "origin": "random",
    "within": 0.1,
    "examples": 100,
    "rungs": [
        {
            "0": {"score": 0.5, "selection_score": 0.5, **ROW},
            "1": {"score": 0.3, "selection_score": 0.3, **ROW},
            "2": {"score": 0.6, "selection_score": 0.6, **ROW},
        },
        {"0": {"score": 0.7, "selection_score": 0.7, **ROW}, "2": {"score": 0.8, "selection_score": 0.8, **ROW}},
    ],
    "sentences": ["the winner is random"],
}
CANDIDATES = {"candidates": [{"origin": "searched: likeliest"}, {"origin": "searched: second"}, {"origin": "random"}]}
SEEDS = {"0": {"score": 90.0, "seconds": 3.0}, "1": {"score": 92.0, "seconds": 5.0}}
COMPARISON: dict[str, Any] = {
    "metric": "test score",
    "unit": "%",
    "higher_is_better": True,
    "confidence": 0.95,
    "budget": {"kind": "steps", "value": 9},
    "seeds": [0, 1],
    "reference": "random cells",
    "winner": {"text": "no difference shown between egs and <gdas>"},
    "notes": ["equal steps are not equal work"],
    "rows": [
        {
            "name": "<gdas>",
            "kind": "method",
            "note": "",
            "seeds": SEEDS,
            "mean": 91.0,
            "sd": 1.4,
            "low": 90.0,
            "high": 92.0,
        },
        {
            "name": "egs",
            "kind": "method",
            "note": "",
            "seeds": SEEDS,
            "mean": 95.0,
            "sd": 1.4,
            "low": 94.0,
            "high": 96.0,
        },
        {"name": "failed", "kind": "method", "note": "", "seeds": {"0": {"failed": "no memory"}}},
        {"name": "random cells", "kind": "control", "note": "one a seed", "seeds": SEEDS, "mean": 80.0, "sd": None},
    ],
}
COMPARED = [
    {"origin": "random", "score": 0.8, "shown": "80.0%", "ahead": None, "macs": 1_000_000, "parameters": 10},
    {
        "origin": "resnet18",
        "score": 0.7,
        "shown": "70.0%",
        "ahead": [0.1, 0.02, 0.18],
        "macs": 1_000_000,
        "parameters": 12,
    },
]
IN_OTHER_UNITS = [
    COMPARED[0],
    {**COMPARED[1], "ahead": [0.35, 0.1, 0.6], "ahead_shown": "+0.3500 [+0.1000, +0.6000]"},
]
FIT = {
    "score_name": "accuracy",
    "shown": "81.0%",
    "parameters": 10,
    "macs": 1_000_000,
    "compared": COMPARED,
    "sentence": "take this one (random)",
}


def read(path: Path) -> Folder:
    return Folder(overview(path))


def test_a_race_shows_its_last_rung_with_intervals_and_all_candidates(make: Callable[..., Path]) -> None:
    (section,) = race_sections(read(make("race", race=RACE, candidates=CANDIDATES)), Terms())
    chart, table = (next(each for each in section.blocks if isinstance(each, kind)) for kind in (Chart, Table))
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    ends, dots = (layer["data"]["values"] for layer in chart.spec["layer"])
    assert [(row["name"], row["group"]) for row in dots] == [
        ("2: random", "winner"),
        ("0: searched: likeliest", "others"),
    ]
    assert all(end["low"] < dot["value"] < end["high"] for end, dot in zip(ends, dots, strict=True))
    assert [(row[0].text, row[2].text, row[3].text) for row in table.rows] == [
        ("2", "2", "80.0%"),
        ("0", "2", "70.0%"),
        ("2", "1", "60.0%"),
        ("0", "1", "50.0%"),
        ("1", "1", "30.0%"),
    ]


@pytest.mark.parametrize(
    ("more", "scores", "shown"),
    [
        ({"metric": {"is_share": False, "counts_examples": False}}, (0.4, 0.5), "0.4"),
        ({"metric": {"is_share": True, "counts_examples": False}}, (0.5, 0.4), "50.0%"),
        ({"within": None}, (85.0, 90.0), "85"),
    ],
    ids=["an error below 1", "a share that counts no examples", "an older race"],
)
def test_scores_that_count_no_examples_have_no_intervals(
    make: Callable[..., Path], more: dict[str, Any], scores: tuple[float, float], shown: str
) -> None:
    rung = {str(place): {"score": score, "selection_score": -place, **ROW} for place, score in enumerate(scores)}
    folder = read(make("race", race={**RACE, "rungs": [rung], "winner": 0, **more}, candidates=CANDIDATES))
    (section,) = race_sections(folder, Terms())
    chart, table = (next(each for each in section.blocks if isinstance(each, kind)) for kind in (Chart, Table))
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    assert chart.spec["layer"][0]["data"]["values"] == []
    assert [row["value"] for row in chart.spec["layer"][1]["data"]["values"]] == [*scores]
    assert table.rows[0][3].text == shown


def test_a_score_that_is_not_finite_stands_last(make: Callable[..., Path]) -> None:
    rung = {"0": {"score": "nan", "selection_score": "nan", **ROW}, "1": {"score": 0.5, "selection_score": 0.5, **ROW}}
    folder = read(make("race", race={**RACE, "rungs": [rung], "winner": 1}, candidates=CANDIDATES))
    (section,) = race_sections(folder, Terms())
    table = next(each for each in section.blocks if isinstance(each, Table))
    assert [row[0].text for row in table.rows] == ["1", "0"]


def test_a_comparison_is_ranked_with_its_seeds_and_without_empty_columns(make: Callable[..., Path]) -> None:
    (section,) = comparison_sections(read(make("compare", comparison=COMPARISON)), Terms())
    chart, table = (next(each for each in section.blocks if isinstance(each, kind)) for kind in (Chart, Table))
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    _, dots, seeds = (layer["data"]["values"] for layer in chart.spec["layer"])
    assert [row["name"] for row in dots] == ["egs", "<gdas>", "random cells"]
    assert {row["seed"] for row in seeds if row["name"] == "egs"} == {90.0, 92.0}
    assert [row[0].text for row in table.rows] == ["egs", "<gdas>", "random cells", "failed"]
    assert "seconds" in table.head
    assert "percentile" not in table.head
    (seconds,) = [row[table.head.index("seconds")] for row in table.rows if row[0].text == "egs"]
    assert (seconds.text, seconds.key) == ("4.0", 4.0)


def test_numbers_with_units_are_sorted_by_what_they_mean(make: Callable[..., Path]) -> None:
    rows = [
        {**COMPARISON["rows"][0], "name": name, "seeds": {"0": {"score": 1.0, "parameters": count}}}
        for name, count in (("small", 900.0), ("large", 12_300.0), ("huge", 4.5e6))
    ]
    (section,) = comparison_sections(read(make("compare", comparison={**COMPARISON, "rows": rows})), Terms())
    table = next(each for each in section.blocks if isinstance(each, Table))
    column = table.head.index("parameters")
    assert {row[0].text: row[column].key for row in table.rows} == {"small": 900.0, "large": 12_300.0, "huge": 4.5e6}


@pytest.mark.parametrize(
    ("kind", "files", "expected"),
    [
        ("race", {"race": RACE, "candidates": CANDIDATES}, ["The winner is random.", "longer. They are judged"]),
        ("compare", {"comparison": COMPARISON}, ["Verdict: no difference shown between egs and &lt;gdas&gt;"]),
        ("fit", {"fit": FIT}, ["Take this one (random).", "+10.0 [+2.0, +18.0] points"]),
        ("fit", {"fit": {**FIT, "compared": IN_OTHER_UNITS}}, ["+0.3500 [+0.1000, +0.6000]"]),
        ("fit", {"fit": {**FIT, "compared": []}}, ["Nothing was compared"]),
        ("race", {}, ["The race is not over"]),
        ("compare", {}, ["The comparison is not over"]),
        ("fit", {}, ["The fit is not over"]),
        ("race", {"race": {"rungs": [{"0": {}}]}, "candidates": CANDIDATES}, ["could not be read"]),
        ("compare", {"comparison": {"rows": 3}}, ["could not be read"]),
        ("fit", {"fit": {"compared": [1]}}, ["could not be read"]),
        ("unheard-of", {}, ["A run, ", "The folder says nothing yet"]),
    ],
)
def test_the_page_says_so(
    make: Callable[..., Path], page: Callable[..., str], kind: str, files: dict[str, Any], expected: list[str]
) -> None:
    made = re.sub(r"\s+", " ", page(make(kind, **files)))
    for words in expected:
        assert words in made
    assert "Settings and how to repeat it" in made
