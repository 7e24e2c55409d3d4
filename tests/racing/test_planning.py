"""What is chosen for a search of which little is given: by the images, by the time, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas import search
from datanas.cli import main
from datanas.core.errors import ConfigError, DataError
from datanas.engine.config import Config, resolve
from datanas.engine.search import SearchJob
from datanas.racing import planning
from datanas.racing import search as search_module
from datanas.racing.costs import FEWEST_STEPS
from datanas.racing.plan import Pace
from datanas.racing.planning import is_plain, planned

Measure = Callable[..., None]
PIXELS = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three classes of eight images of two sizes each."""
    for label in range(3):
        folder = tmp_path / "photographs" / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(8):
            side = 128 if number % 2 else 96
            Image.fromarray(np.roll(PIXELS, 7 * number + label, axis=0)[:side]).save(folder / f"{number}.png")
    return tmp_path / "photographs"


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Say what steps take instead of measuring them: of the search by the side of its images, of a training always."""

    def set_pace(step: Callable[[int], float] = lambda side: 0.1, training: float = 0.1) -> None:
        def measured(job: Any, device: Any) -> tuple[float, float]:
            return step(job.task.example().shape[-1]), 1.0

        monkeypatch.setattr(planning, "measure_job", measured)
        monkeypatch.setattr(planning, "measure_pace", lambda *_: Pace(20, training, 2.0, 2))

    set_pace()
    return set_pace


def folder(root: Path, **more: Any) -> dict[str, Any]:
    return {"data": {"name": "folder", "root": str(root)}, "device": "cpu", "threads": 1, **more}


def chosen(settings: Mapping[str, Any], budget: object = "20m", **more: Any) -> Config:
    return planned(settings, budget=budget, quiet=True, **more)


def test_what_is_left_open_fits_the_images(photographs: Path, pace: Measure) -> None:
    found = chosen(folder(photographs))
    assert found.data.model_dump()["resize"] == 64
    assert found.task.model_dump()["stem"] == "cifar_half"
    assert found.task.model_dump()["train_augment"]["cutout"] == 16
    assert found.search.batch_size == 8
    assert found.search.choice == "race"
    assert found.search.alpha.lr > 3e-4
    assert 10 <= found.train.epochs <= 100


def test_what_is_given_stays(photographs: Path, pace: Measure) -> None:
    own = folder(photographs, search={"batch_size": 4, "choice": "derive"}, task={"stem": "cifar"})
    own["data"]["resize"] = 16
    found = chosen(own)
    assert found.data.model_dump()["resize"] == 16
    assert found.task.model_dump()["stem"] == "cifar"
    assert (found.search.batch_size, found.search.choice) == (4, "derive")


def test_search_and_race_share_the_time(photographs: Path, pace: Measure) -> None:
    pace(step=lambda side: 1.0)
    found = chosen(folder(photographs), budget="10m")
    assert found.search.epochs == FEWEST_STEPS  # batches of 8 make one step an epoch
    assert found.search.race.time == pytest.approx(600 - (200 + 4) / 0.85, abs=5)


@pytest.fixture
def many(tmp_path: Path) -> dict[str, Any]:
    """1,800 tiny images of three classes in batches of 2: a pass has 450 steps, or 405 where a tenth is the judge's."""
    x = np.random.default_rng(0).integers(0, 255, (1800, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "many.npz", train_x=x, train_y=np.arange(1800) % 3, test_x=x[:9], test_y=np.arange(9) % 3)
    data = {"name": "npz", "root": str(tmp_path / "many.npz")}
    return {"data": data, "device": "cpu", "threads": 1, "search": {"batch_size": 2, "choice": "derive"}}


@pytest.mark.parametrize(("budget", "examples"), [("9m", 1800), ("6m", 1200), ("5m", 1012)])
def test_fewer_images_are_read_where_not_one_pass_fits(
    many: dict[str, Any], pace: Measure, budget: str, examples: int
) -> None:
    pace(step=lambda side: 1.0)
    found = chosen(many, budget=budget)
    assert found.search.epochs == 1
    assert (found.search.examples or 1800) == pytest.approx(examples, abs=20)  # reading takes its time


def test_no_fewer_than_tell_something_are_read_and_what_is_given_stays(
    many: dict[str, Any], pace: Measure, capsys: pytest.CaptureFixture[str]
) -> None:
    pace(step=lambda side: 1.0)
    with pytest.raises(ConfigError, match="180 s are too few: 1 epoch of 200 steps, the fewest"):
        chosen(many, budget="3m")
    many["search"]["examples"] = 1700
    with pytest.raises(ConfigError, match="5 min are too few: 1 epoch of 425 steps"):
        chosen(many, budget="5m")
    del many["search"]["examples"]
    planned(many, budget="5m")
    assert "one pass over all 1,800 images takes about 8 min: the search reads 1," in capsys.readouterr().err


def test_images_in_groups_are_planned_for(many: dict[str, Any], pace: Measure, tmp_path: Path) -> None:
    with np.load(tmp_path / "many.npz") as arrays:
        np.savez(tmp_path / "many.npz", **dict(arrays), train_groups=np.arange(1800) // 6)
    many["search"]["choice"] = "race"
    found = chosen(many, budget="40m")
    assert found.search.choice == "race"
    assert found.search.epochs >= 1


def test_all_are_read_where_so_few_make_no_parts(
    many: dict[str, Any], pace: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfAllAlone(SearchJob):
        def __init__(self, config: Config, *rest: Any) -> None:
            if config.search.examples is not None:
                raise DataError("too few")
            super().__init__(config, *rest)

    monkeypatch.setattr(planning, "SearchJob", OfAllAlone)
    pace(step=lambda side: 1.0)
    planner = planning.Planner(many, 300.0)
    task, costs = planner.measure(None, by_data=True)
    assert planner.shorten(task, costs, 300.0) == (task, costs)
    assert planner.config.search.examples is None
    assert not planner.notes


def test_smaller_images_are_taken_where_large_ones_are_too_slow(photographs: Path, pace: Measure) -> None:
    pace(step=lambda side: 10.0 if side == 64 else 0.01)
    assert chosen(folder(photographs), budget="5m").data.model_dump()["resize"] == 32


def test_images_of_one_small_size_stay_as_they_are(tmp_path: Path, pace: Measure) -> None:
    for label in range(2):
        (tmp_path / "small" / str(label)).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(PIXELS[number : number + 24, label : label + 24]).save(
                tmp_path / "small" / str(label) / f"{number}.png"
            )
    found = chosen(folder(tmp_path / "small"))
    assert found.data.model_dump()["resize"] is None
    assert found.task.model_dump()["train_augment"]["cutout"] == 6


def test_without_time_for_a_race_there_is_none_but_on_request(photographs: Path, pace: Measure) -> None:
    pace(training=10.0)
    assert chosen(folder(photographs), budget="10m").search.choice == "derive"
    with pytest.raises(ConfigError, match=r"search\.race\.time"):
        chosen(folder(photographs, search={"choice": "race"}), budget="10m")


def test_too_little_time_is_refused_with_what_would_do(photographs: Path, pace: Measure) -> None:
    pace(step=lambda side: 5.0)
    with pytest.raises(ConfigError, match=r"budget: 60 s are too few: .* take about \d+ min; allow as much"):
        chosen(folder(photographs, search={"choice": "derive"}), budget="60s")


@pytest.mark.parametrize("budget", ["20", "soon", "-3m", "0m"])
def test_no_time_is_refused(budget: str, photographs: Path) -> None:
    with pytest.raises(ConfigError, match="budget: must be a time with its unit"):
        chosen(folder(photographs), budget=budget)


def test_a_recipe_s_epochs_give_way_to_a_budget_and_those_of_the_command_line_do_not(
    photographs: Path, pace: Measure
) -> None:
    recipe = folder(photographs, search={"epochs": 7, "race": {"time": "3h"}})
    found = chosen(recipe, has_recipe=True)
    assert found.search.epochs != 7
    assert found.search.race.time != 3 * 3600
    with pytest.raises(ConfigError, match="both say how long"):
        planned(recipe, [("search.epochs", 7)], budget="20m", quiet=True)


def test_without_budget_a_recipe_is_not_touched(photographs: Path) -> None:
    recipe = folder(photographs, space={"cells": 3})
    assert planned(recipe, has_recipe=True) == resolve(recipe)
    told = folder(photographs, search={"epochs": 3})
    assert planned(told) == resolve(told)


def test_several_processes_are_not_planned_for(photographs: Path) -> None:
    with pytest.raises(ConfigError, match="budget: steps are measured in one process"):
        chosen(folder(photographs, devices=2))
    assert not is_plain(folder(photographs, devices=2))


def test_other_tasks_have_their_epochs_from_the_budget(pace: Measure) -> None:
    raw = {"data": "photo_scenes", "task": {"name": "segmentation", "stem": "cifar_half", "crop": 32}, "threads": 1}
    raw |= {"space": {"cells": 3, "channels": 2}, "search": {"batch_size": 16}}
    pace(step=lambda side: 0.5)
    found = chosen(raw, budget="5m")
    assert found.search.choice == "derive"
    assert found.search.epochs != 50
    assert not is_plain(raw)


def test_a_run_that_stands_keeps_what_was_chosen_for_it(
    photographs: Path, pace: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = folder(photographs, run={"root": str(tmp_path / "runs"), "name": "mine"})
    first = chosen(own)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").write_text(first.to_yaml())
    pace(step=lambda side: 2.0)
    assert chosen(own) == first


def test_the_command_and_python_plan_alike(
    photographs: Path, pace: Measure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Config] = []

    def instead(config: Config, **_: Any) -> None:
        asked.append(config)
        raise ConfigError("enough")

    monkeypatch.setattr(search_module, "search_alone", instead)
    with pytest.raises(ConfigError, match="enough"):
        search(folder(photographs), quiet=True)
    given = ["--data.name", "folder", "--data.root", str(photographs), "--device", "cpu", "--threads", "1"]
    assert main(["search", *given]) == 2
    said = capsys.readouterr().err
    assert "planned for 20 min: " in said
    assert len(asked) == 2
    first, second = (each.model_dump(mode="json") for each in asked)
    for plain in (first, second):
        assert 0 < plain["search"]["race"].pop("time") < 1200  # less what was measured, and reading takes its time
    assert first == second
    assert main(["search", *given, "--budget", "20m", "--print-config", "--quiet"]) == 0
    assert "choice: race" in capsys.readouterr().out
    (photographs / "config.yaml").write_text(asked[0].to_yaml())
    assert main(["search", "--budget", "20m", "--resume", str(photographs)]) == 2
    assert "what a run that goes on may take is settled" in capsys.readouterr().err
