"""What a report says of a front, from files such as `datanas pareto` writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.report.page.blocks import Chart, Section, Table
from datanas.report.page.folder import Folder
from datanas.report.page.front_part import front_sections
from datanas.report.page.terms import Terms
from datanas.runs.overview import overview


def point(number: int, origin: str, bound: float, cost: float, score: Any, **more: Any) -> dict[str, Any]:
    trained = {"score": score, "selection_score": score, "parameters": 900 + number, "macs": int(cost), "channels": 4}
    interval = [score - 0.1, score + 0.1] if isinstance(score, float) else None
    return {
        "number": number,
        "origin": origin,
        "bound": bound,
        "cost": cost,
        "trained": trained,
        "interval": interval,
        **more,
    }


FRONT: dict[str, Any] = {
    "cost": "macs",
    "unit": "multiply-adds",
    "score_name": "accuracy",
    "metric": {"is_share": True, "counts_examples": True},
    "points": [
        point(0, "searched", 2e6, 1.9e6, 0.7),
        point(1, "random", 2e6, 2.0e6, 0.6),
        point(2, "searched", 1e6, 0.8e6, 0.5),
        point(3, "random", 1e6, 0.9e6, 0.52),
    ],
    "front": [2, 3, 0],
    "gains": {"random": {"mean": 0.04, "low": -0.02, "high": 0.1, "pairs": 2, "verdict": "no difference shown"}},
    "sentences": ["searched against random at equal bounds: +4.0 [-2.0, +10.0]"],
}


def sections(path: Path) -> list[Section]:
    return [*front_sections(Folder(overview(path)), Terms())]


def only(section: Section, kind: type) -> Any:
    (found,) = [each for each in section.blocks if isinstance(each, kind)]
    return found


def test_networks_stand_by_bound_and_those_of_the_front_have_a_star(make: Callable[..., Path]) -> None:
    front, _ = sections(make("pareto", pareto=FRONT))
    table = only(front, Table)
    assert [(row[0].text, row[1].text, row[5].text, row[-1].text) for row in table.rows] == [
        ("1,000,000", "searched", "50.0%", "*"),
        ("1,000,000", "random", "52.0%", "*"),
        ("2,000,000", "searched", "70.0%", "*"),
        ("2,000,000", "random", "60.0%", ""),
    ]
    assert table.rows[0][table.head.index("95 %")].text == "40.0% to 60.0%"


def test_the_picture_has_every_network_with_its_interval_and_steps_through_the_front(
    make: Callable[..., Path],
) -> None:
    chart = only(sections(make("pareto", pareto=FRONT))[0], Chart)
    rows = chart.spec["data"]["values"]
    assert {(row["cost"], row["value"], row["on_front"]) for row in rows} == {
        (1.9e6, 0.7, True),
        (2.0e6, 0.6, False),
        (0.8e6, 0.5, True),
        (0.9e6, 0.52, True),
    }
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    assert chart.alt.endswith("800,000 multiply-adds: searched, 50.0%; 900,000 multiply-adds: random, 52.0%; "
                              "1,900,000 multiply-adds: searched, 70.0%.")  # fmt: skip
    steps, _, dots = chart.spec["layer"]
    assert steps["mark"]["interpolate"] == "step-after"
    assert steps["transform"] == [{"filter": "datum.on_front"}]
    assert "transform" not in dots


def test_the_gain_stands_with_its_interval(make: Callable[..., Path]) -> None:
    _, gained = sections(make("pareto", pareto=FRONT))
    table = only(gained, Table)
    assert table.head[1] == "mean (points)"
    assert [cell.text for cell in table.rows[0]] == ["random", "+4.0", "-2.0 to +10.0", "2", "no difference shown"]


def test_a_gain_of_which_nothing_is_said_says_why(make: Callable[..., Path]) -> None:
    gains = {"random": None, "reference: resnet18": {**FRONT["gains"]["random"], "low": None, "high": None}}
    _, gained = sections(make("pareto", pareto={**FRONT, "gains": gains}))
    first, second = only(gained, Table).rows
    assert first[-1].text == "fewer than two bounds have both"
    assert [cell.text for cell in second][1:3] == ["+4.0", "–"]


def test_a_score_that_is_no_share_has_no_interval(make: Callable[..., Path]) -> None:
    points = [{**each, "interval": None, "trained": {**each["trained"], "score": 85.25}} for each in FRONT["points"]]
    gains = {"random": {**FRONT["gains"]["random"], "mean": -1.5}}
    data = {**FRONT, "metric": {"is_share": False}, "score_name": "perplexity", "points": points, "gains": gains}
    front, gained = sections(make("pareto", pareto=data))
    table = only(front, Table)
    assert "95 %" not in table.head
    assert table.rows[0][5].text == "85.25"
    assert (only(gained, Table).head[1], only(gained, Table).rows[0][1].text) == ("mean (perplexity)", "-1.5")


def test_a_score_that_is_not_finite_is_in_the_table_only(make: Callable[..., Path]) -> None:
    points = [*FRONT["points"], point(4, "random", 2e6, 1.5e6, "nan")]
    front, _ = sections(make("pareto", pareto={**FRONT, "points": points}))
    assert len(only(front, Chart).spec["data"]["values"]) == 4
    assert len(only(front, Table).rows) == 5


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"pareto": FRONT},
            ["A front, complete.", "Searched against random at equal bounds", "is made of the networks"],
        ),
        ({}, ["The front is not complete: datanas pareto --resume"]),
        ({"pareto": {**FRONT, "points": [{}]}}, ["could not be read"]),
    ],
    ids=["complete", "stopped", "damaged"],
)
def test_the_page_says_so(
    make: Callable[..., Path], page: Callable[..., str], files: dict[str, Any], expected: list[str]
) -> None:
    made = re.sub(r"\s+", " ", page(make("pareto", **files)))
    for words in expected:
        assert words in made
