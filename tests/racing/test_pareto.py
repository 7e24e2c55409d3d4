"""A whole front on tiny images: its bounds are kept, it goes on, its files lead on, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.inside import Inside
from tests.racing.test_race import recipe

import datanas
from datanas import Architecture, ParetoResult
from datanas.cli import main
from datanas.comparison import pool
from datanas.core.errors import CheckpointError, ConfigError, Interrupted
from datanas.engine.search import search as search_alone
from datanas.racing import pareto as module
from datanas.racing.candidates import network_key
from datanas.racing.pareto import pareto
from datanas.racing.plan import Pace
from datanas.racing.within_bounds import read_bounds
from datanas.report.page.blocks import Table
from datanas.report.page.folder import Folder
from datanas.report.page.run_part import run_part
from datanas.report.page.terms import Terms
from datanas.runs.overview import overview

SETTINGS: list[tuple[str, object]] = [("search.race.processes", 2)]


@pytest.fixture(scope="module")
def searched(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_alone(recipe(tiny_images, tmp_path_factory.mktemp("runs"), "searched"), quiet=True).path


@pytest.fixture(scope="module")
def inside() -> Iterator[None]:
    """Trainings in this process, of which nothing is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "measure_pace", lambda *_: Pace(6, 0.1, 1.0, 2))
        patch.setattr(pool, "_start", Inside().start)
        patch.setattr(pool, "_POLL", 0.0)
        yield


def place(root: Path, name: str = "front") -> list[tuple[str, object]]:
    return [*SETTINGS, ("run.root", str(root)), ("run.name", name)]


@pytest.fixture(scope="module")
def found(searched: Path, inside: None, tmp_path_factory: pytest.TempPathFactory) -> ParetoResult:
    settings = place(tmp_path_factory.mktemp("fronts"))
    return pareto(searched, points=2, epochs=1, settings=settings, quiet=True)


def test_everything_costs_what_its_bound_allows(found: ParetoResult) -> None:
    assert len({point.bound for point in found.points}) == 2
    for point in found.points:
        assert point.cost <= point.bound
        assert point.trained.macs == point.cost  # counted on the network that was trained


def test_searched_and_random_networks_take_part_at_each_bound_and_none_twice(found: ParetoResult) -> None:
    origins = {point.origin for point in found.points}
    assert {"searched", "random", "reference: resnet18"} >= origins >= {"searched", "random"}
    files = list((found.path / "architectures").iterdir())
    keys = {network_key(Architecture.load(file)) for file in files}
    assert len(keys) == len(files) == sum(not point.origin.startswith("reference") for point in found.points)


def test_of_a_bound_the_likeliest_within_it_is_trained(found: ParetoResult, searched: Path) -> None:
    bound = min(point.bound for point in found.points if point.origin == "searched")
    derived = datanas.derive(searched, settings=[("budget.macs", bound)]).architecture
    assert any(
        network_key(Architecture.load(file)) == network_key(derived)
        for file in (found.path / "architectures").iterdir()
        if "random" not in file.name
    )


def test_its_files_say_the_same(found: ParetoResult) -> None:
    rows = list(csv.DictReader((found.path / "front.csv").open()))
    data = json.loads((found.path / "pareto.json").read_bytes())
    assert [int(float(row["cost"])) for row in rows] == [point.cost for point in found.points]
    assert [row["on_front"] == "1" for row in rows] == [each["number"] in data["front"] for each in data["points"]]
    assert data["front"] == [point.number for point in found.front]


def test_what_was_trained_can_be_trained_in_full(found: ParetoResult, tmp_path: Path) -> None:
    file = next(iter((found.path / "architectures").iterdir()))
    config = str(found.path / "config.yaml")
    run = ["--run.root", str(tmp_path), "--run.name", "full", "--train.epochs", "1"]
    assert main(["train", str(file), "-c", config, *run, "--quiet"]) == 0


def test_a_front_that_was_stopped_goes_on(
    found: ParetoResult, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Inside(), Inside()
    first.stop_after = 2
    monkeypatch.setattr(pool, "_start", first.start)
    with pytest.raises(Interrupted, match=f"datanas pareto --resume {tmp_path / 'front'}"):
        pareto(searched, points=2, epochs=1, settings=place(tmp_path), quiet=True)
    monkeypatch.setattr(pool, "_start", second.start)
    again = pareto(resume=tmp_path / "front", settings=[("search.race.processes", 1)], quiet=True)
    assert len(first.started) + len(second.started) == len(found.points)
    assert again.rows == found.rows


def test_one_that_was_killed_before_its_networks_were_chosen_goes_on(found: ParetoResult, tmp_path: Path) -> None:
    folder = tmp_path / "front"
    folder.mkdir()
    for name in ("config.yaml", "request.json", "env.json"):
        (folder / name).write_bytes((found.path / name).read_bytes())
    (folder / "architectures").mkdir()
    (folder / "architectures" / "left.json").write_text("{}")
    assert pareto(resume=folder, quiet=True).rows == found.rows
    assert not (folder / "architectures" / "left.json").exists()


def test_what_is_resumed_is_settled(found: ParetoResult, searched: Path) -> None:
    for given in ({"run": searched}, {"bounds": [1e6]}, {"epochs": 3}, {"settings": [("train.channels", 3)]}):
        with pytest.raises(ConfigError, match="resumed is settled"):
            pareto(resume=found.path, quiet=True, **given)


def test_it_goes_on_without_training_anew(found: ParetoResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_start", None)  # nothing may be started
    again = pareto(resume=found.path, quiet=True)
    assert again.rows == found.rows


def test_the_same_name_goes_on_and_another_front_is_refused(found: ParetoResult, searched: Path) -> None:
    settings = place(found.path.parent)
    assert pareto(searched, points=2, epochs=1, settings=settings, quiet=True).rows == found.rows
    with pytest.raises(ConfigError, match="a pareto with other settings"):
        pareto(searched, points=3, epochs=1, settings=settings, quiet=True)


def test_bounds_can_be_given_and_parameters_bounded(searched: Path, inside: None, tmp_path: Path) -> None:
    full = datanas.derive(searched, settings=[("budget.parameters", "1G")]).architecture
    most = (full.posterior or {})["costs"]["parameters"]
    result = pareto(
        searched, cost="parameters", bounds=[most, 0.8 * most], epochs=1, random=0, settings=place(tmp_path), quiet=True
    )
    assert {point.origin for point in result.points} == {"searched"}
    assert all(point.trained.parameters == point.cost <= point.bound for point in result.points)


def test_settings_of_a_race_do_not_change_what_is_trained(searched: Path, inside: None, tmp_path: Path) -> None:
    settings = [*place(tmp_path), ("search.race.max_macs", 20_000), ("budget.weight", {"macs": 0.1})]
    result = pareto(searched, points=2, epochs=1, random=0, settings=settings, quiet=True)
    assert all(point.trained.macs == point.cost for point in result.points)


def test_the_command_draws_it(found: ParetoResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", "--resume", str(found.path)]) == 0
    assert (found.path / "front.svg").read_text().startswith("<?xml")
    assert "searched against random at equal bounds" in capsys.readouterr().out
    assert main(["runs", "show", str(found.path)]) == 0
    assert "searched against random" in capsys.readouterr().out


def test_the_report_shows_all_of_it(found: ParetoResult) -> None:
    folder = Folder(overview(found.path))
    part = run_part(folder, "run-1", Terms(), frames=1, pictures=1)
    assert folder.faults == []
    titles = [
        "What was found",
        "The front",
        "What searching has gained at equal bounds",
        "Settings and how to repeat it",
    ]
    assert [section.title for section in part.sections] == titles
    (table,) = [each for each in part.sections[1].blocks if isinstance(each, Table)]
    assert sorted(row[1].text for row in table.rows) == sorted(point.origin for point in found.points)
    assert sum(row[-1].text == "*" for row in table.rows) == len(found.front)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"points": 1}, "points"),
        ({"bounds": [-1.0]}, "bounds"),
        ({"cost": "colour"}, "cost: must be one of macs"),
        ({"cost": "memory"}, "bounds: are required for memory"),
        ({"cost": "latency"}, "budget.latency_table"),
        ({"epochs": 0}, "epochs"),
        ({"random": -1}, "random"),
        ({"bounds": [1.0]}, "no network"),
        ({"settings": [("train.max_macs", "1M")]}, "train.max_macs"),
        ({"settings": [("data.resize", 16)]}, "data.resize"),
        ({"settings": [("search.judge", 0.3)]}, "search.judge"),
        ({"cost": "latency", "bounds": [1.001, 1.003]}, "two of them are 1 ms"),
        ({"settings": [("budget.macs", "1M"), ("budget.fill", True)]}, "budget.fill"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    searched: Path, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    settings = [*place(tmp_path), *given.pop("settings", [])]
    with pytest.raises(ConfigError, match=words):
        pareto(searched, **{"epochs": 1, **given}, settings=settings, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_no_search_is_refused(found: ParetoResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finished"):
        pareto(found.path, settings=place(tmp_path), quiet=True)
    with pytest.raises(ConfigError, match="datanas pareto RUN"):
        pareto(quiet=True)


def test_a_search_is_not_gone_on_with_as_a_front(searched: Path) -> None:
    with pytest.raises(CheckpointError, match="pareto run"):
        pareto(resume=searched, quiet=True)


@pytest.mark.parametrize(
    ("cost", "text", "expected"),
    [("macs", "1M,2.5M", (1e6, 2.5e6)), ("size", "500kB, 1MiB", (5e5, 2.0**20)), ("latency", "800us,2ms", (0.8, 2.0))],
)
def test_bounds_are_read_with_their_units(cost: str, text: str, expected: tuple[float, ...]) -> None:
    assert read_bounds(cost, text) == expected


def test_a_bound_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="got 'x'"):
        read_bounds("macs", "1M,x")
