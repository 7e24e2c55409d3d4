"""The sizes and lengths of a fit."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.engine.setup import load_task
from datanas.fitting import planning, sizing
from datanas.fitting.plan import Plan, Race
from datanas.fitting.planning import make_plan
from datanas.fitting.sizing import Size, wanted_epochs
from datanas.racing import planning as racing
from datanas.racing.candidates import random_candidates
from datanas.racing.plan import Pace


def test_the_wanted_passes_grow_with_the_time_and_are_many_of_few_examples() -> None:
    assert wanted_epochs(300, 700) == 8
    assert wanted_epochs(1200, 700) == 16
    assert wanted_epochs(10, 700) == sizing.FEWEST_EPOCHS
    assert wanted_epochs(300, 10) == 60
    assert wanted_epochs(1e6, 700) == sizing.MOST_EPOCHS


def test_a_training_fills_its_time() -> None:
    size = Size(1_000_000, step=0.1, measure=10.0, steps=100)
    assert size.epochs_in(110) == 10
    assert size.seconds_of(10) == pytest.approx(110)
    assert size.epochs_in(1) == 1


def test_one_pass_is_of_what_there_is_time_for() -> None:
    size = Size(None, step=0.1, measure=10.0, steps=1000, examples=35_000)
    assert size.examples_in(110) is None  # all of them
    assert size.examples_in(60) == 15_750  # nine tenths of the 500 steps that there is time for
    assert size.examples_in(-5) == 1750  # fifty steps at least
    assert Size(None, 0.1, 10.0, 30, examples=1050).examples_in(1) is None
    assert Size(None, 0.1, 10.0, 1000).examples_in(60) is None  # of what fewer cannot be taken


@pytest.fixture
def given(tiny_images: Path) -> dict[str, Any]:
    return {
        "data": {"name": "npz", "root": str(tiny_images)},
        "task": {"name": "classification"},
        "space": {"name": "nasbench201", "channels": 2},
        "search": {"batch_size": 6, "gap": {"examples": 6}},
        "train": {"batch_size": 6},
        "threads": 1,
        "device": "cpu",
    }


@pytest.fixture
def steps_of_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps whose time is that of a size: a tenth of a second for a million multiply-adds."""

    def measured(cell: object, config: object, task: object, device: object) -> Size:
        macs = config.train.max_macs  # type: ignore[attr-defined]
        return Size(macs, (macs or 1e6) / 1e7, 1.0, 10)

    monkeypatch.setattr(sizing, "measured", measured)
    monkeypatch.setattr(planning, "measured", measured)
    monkeypatch.setattr(racing, "measure_job", lambda *_: (0.01, 0.1))
    monkeypatch.setattr(racing, "measure_pace", lambda *_: Pace(10, 0.01, 1.0, 2))


def test_more_time_makes_larger_networks_and_larger_races(given: dict[str, Any], steps_of_a_tenth: None) -> None:
    short, long = make_plan(given, 120.0), make_plan(given, 3600.0)
    for plan in (short, long):
        stages = plan.search_seconds + plan.train_seconds + (plan.race.seconds if plan.race else 0)
        assert stages <= plan.seconds
    assert short.race is not None
    assert long.race is not None
    assert short.config["train"]["max_macs"] < long.config["train"]["max_macs"]
    assert short.race.candidates < long.race.candidates
    assert long.race.references == ("resnet18",)
    assert "with resnet18" in long.text()


def test_a_short_fit_searches_with_a_part_of_many_images(
    given: dict[str, Any], steps_of_a_tenth: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).integers(0, 255, (3000, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "many.npz", train_x=x, train_y=np.arange(3000) % 3, test_x=x[:9], test_y=np.arange(9) % 3)
    given["data"]["root"], given["search"]["batch_size"] = str(tmp_path / "many.npz"), 4
    monkeypatch.setattr(racing, "measure_job", lambda *_: (0.2, 0.1))
    short, long = make_plan(given, 300.0), make_plan(given, 900.0)
    assert long.config["search"]["examples"] is None
    assert 200 * 8 <= short.config["search"]["examples"] < 2_700
    assert short.config["search"]["epochs"] == 1
    assert short.search_seconds <= planning.FOR_SEARCH * 300
    assert any("the search reads" in note for note in short.notes)


def test_a_fit_of_images_in_groups_is_planned(given: dict[str, Any], steps_of_a_tenth: None, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (300, 8, 8, 3)).astype(np.uint8)
    arrays: dict[str, Any] = {"train_x": x, "train_y": np.arange(300) % 3, "train_groups": np.arange(300) // 4}
    np.savez(tmp_path / "grouped.npz", **arrays, test_x=x[:9], test_y=np.arange(9) % 3)
    given["data"]["root"] = str(tmp_path / "grouped.npz")
    plan = make_plan(given, 600.0)
    assert plan.race is not None
    assert any("75 groups" in note for note in plan.notes)


def test_a_network_that_is_asked_for_takes_part_where_there_is_time(
    given: dict[str, Any], steps_of_a_tenth: None
) -> None:
    plan = make_plan(given, 60.0, others=("timm:test_resnet",))
    assert plan.race is not None
    assert plan.race.references == ("resnet18", "timm:test_resnet")
    with pytest.raises(ConfigError, match=r"timm:test_resnet has [\d.]+ M multiply-adds, more than 0.2 M"):
        make_plan(given, 60.0, max_macs=200_000, others=("timm:test_resnet",))


@pytest.mark.parametrize(("choice", "races"), [("race", False), ("derive", True)])
def test_without_a_race_nothing_can_be_compared_with(given: dict[str, Any], choice: str, races: bool) -> None:
    given["search"] |= {"choice": choice, "epochs": 1}
    with pytest.raises(ConfigError, match="references: take part in the race"):
        make_plan(given, 60.0, races=races, others=("timm:test_resnet",))


def test_what_takes_part_anyway_takes_part_once(given: dict[str, Any], steps_of_a_tenth: None) -> None:
    plan = make_plan(given, 60.0, others=("resnet18", "resnet18"))
    assert plan.race is not None
    assert plan.race.references == ("resnet18",)


def test_one_that_takes_too_long_is_left_out_and_that_is_said(
    given: dict[str, Any], steps_of_a_tenth: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_slowness", lambda *_: 10**6)
    plan = make_plan(given, 60.0, others=("timm:test_resnet",))
    assert plan.race is not None
    assert plan.race.references == ("resnet18",)
    assert "too short to train timm:test_resnet" in plan.text()


@pytest.mark.parametrize("task", ["multilabel", "regression", "clustering"])
def test_every_task_on_images_is_planned_in_the_space_that_a_fit_takes(
    task: str, given: dict[str, Any], steps_of_a_tenth: None, tmp_path: Path
) -> None:
    x, rows = np.load(given["data"]["root"])["train_x"], np.arange(96).reshape(48, 2) // 5 % 2
    y = {"multilabel": rows, "regression": np.arange(48) / 7, "clustering": np.arange(48) % 3}[task]
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    data = {"name": "npz", "root": str(tmp_path / "mine.npz")}
    own = {name: given[name] for name in ("search", "train", "threads", "device")}
    plan = make_plan({**own, "data": data, "task": {"name": task}, "space": {"channels": 2}}, 600.0)
    assert plan.config["space"]["name"] == "nasbench201"
    assert plan.config["task"]["stem"] == "plain"
    kept = {**own, "data": data, "task": {"name": task, "stem": "plain_half"}, "space": {"channels": 2}}
    assert make_plan(kept, 600.0).config["task"]["stem"] == "plain_half"


def test_a_bound_is_kept_and_without_a_race_there_is_none(given: dict[str, Any], steps_of_a_tenth: None) -> None:
    plan = make_plan(given, 3600.0, max_macs=200_000, races=False)
    assert plan.config["train"]["max_macs"] <= 200_000
    assert plan.race is None
    assert "race" not in plan.text()


def test_what_is_given_stands(given: dict[str, Any], steps_of_a_tenth: None) -> None:
    own = {**given, "search": {**given["search"], "epochs": 3}, "train": {"batch_size": 6, "epochs": 4}}
    plan = make_plan(own, 3600.0)
    assert plan.config["search"]["epochs"] == 3
    assert (plan.config["train"]["epochs"], plan.epochs) == (4, 4)
    fixed = make_plan({**given, "train": {"batch_size": 6, "channels": 3}}, 3600.0, races=False)
    assert fixed.config["train"]["channels"] == 3
    assert fixed.config["train"]["max_macs"] is None
    with pytest.raises(ConfigError, match=r"search\.race\.epochs: a fit plans its race"):
        make_plan({**given, "search": {"race": {"epochs": 2}}}, 3600.0)


def test_a_bound_that_no_network_meets_is_refused_with_the_least(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"max_macs: the narrowest network, of 1 channel, needs [\d,]+ multiply-adds"):
        make_plan(given, 3600.0, max_macs=10)


def test_too_little_time_is_refused_with_what_would_do(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"time: 0 s are too few: .* allow "):
        make_plan(given, 0.2)


def test_races_blank_no_images_and_long_trainings_do_unless_it_is_given(
    given: dict[str, Any], steps_of_a_tenth: None
) -> None:
    plan = make_plan(given, 600.0)
    assert plan.config["task"]["train_augment"]["cutout"] == 0
    assert plan.cutout == 8 // 4  # of a side
    own = {**given, "task": {"name": "classification", "train_augment": {"cutout": 3}}}
    plan = make_plan(own, 600.0)
    assert plan.config["task"]["train_augment"]["cutout"] == 3
    assert plan.cutout is None


def at_widths(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], seconds_at_8: float) -> tuple[int, Size]:
    """What is settled for a cell whose steps take as long as its channels are squared; 100 s, of one step an epoch."""
    config = resolve({**given, "train": {"batch_size": 6, "cells": 3, "max_macs": 3_000_000}})

    def measured(cell: object, config: Any, *_: object) -> Size:
        return Size(config.train.max_macs, seconds_at_8 * (config.train.channels / 8) ** 2, 0.0, 600)

    monkeypatch.setattr(sizing, "measured", measured)
    cell = next(random_candidates(config)).architecture
    device = torch.device("cpu")
    return sizing.settled_size(cell, config, load_task(config, device), device, 100.0)


def test_a_width_is_settled_of_which_the_wanted_passes_can_be_made(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    passes = wanted_epochs(100.0, 600)
    for width in (8, 16, 24, 48):  # so that just this width, and no wider one, can make them
        just_enough = 100.0 / passes / 600 / (width / 8) ** 2
        settled, size = at_widths(monkeypatch, given, 0.999 * just_enough)
        assert settled == width
        assert size.epochs_in(100.0) == passes


def test_where_no_width_makes_enough_passes_it_stays_as_planned(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    settled, size = at_widths(monkeypatch, given, 1.0)
    assert settled not in sizing.WIDTHS
    assert size.epochs_in(100.0) == 1


def test_only_a_width_that_nobody_gave_or_bounded_is_free(given: dict[str, Any], steps_of_a_tenth: None) -> None:
    assert make_plan(given, 600.0).is_free
    assert not make_plan(given, 600.0, max_macs=3_000_000).is_free
    assert not make_plan({**given, "train": {"batch_size": 6, "channels": 3}}, 600.0).is_free
    assert not make_plan({**given, "budget": {"parameters": "500k"}}, 600.0).is_free


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_where_there_is_no_time_for_a_race_a_few_are_compared_where_that_can_tell_them_apart(
    given: dict[str, Any], steps_of_a_tenth: None, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_fits(*_: Any, **__: Any) -> None:
        raise ConfigError("time: too short")

    monkeypatch.setattr(planning, "plan_of_race", none_fits)
    if task == "regression":
        pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
        np.savez(tmp_path / "numbers.npz", x=pixels, y=pixels.mean(axis=(1, 2, 3)))
        given |= {"data": {"name": "npz", "root": str(tmp_path / "numbers.npz")}, "task": {"name": task}}
    race = make_plan(given, 100.0).race
    assert race is not None
    assert 2 <= race.candidates < 6


@pytest.mark.parametrize(
    ("workers", "references", "candidates"), [(1, 1, 2), (2, 1, 3), (2, 2, 2), (4, 1, 3), (8, 1, 5)]
)
def test_in_a_heat_no_worker_is_idle(given: dict[str, Any], workers: int, references: int, candidates: int) -> None:
    pace, config = Pace(1000, 0.1, 1.0, workers), resolve({**given, "train": {"batch_size": 6}})
    race = planning._heat(pace, config, ("resnet18",), references, 100.0)
    assert race is not None
    assert race.candidates == candidates


def test_a_plan_is_read_back_as_it_was_written() -> None:
    race = Race(6, 2, None, ("resnet18",), 100.0)
    plan = Plan(600.0, {"seed": 3}, 100.0, 300.0, race, ("a note",))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.fixture
def long_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A text, and steps of a search that take a hundredth of a second a column."""
    lines = "".join("one two three four five six seven eight nine\n" for _ in range(8_000))
    (tmp_path / "book.txt").write_text(lines)

    def measured(job: Any, device: object) -> tuple[float, float]:
        return 0.01 * job.config.search.batch_size, 0.1

    monkeypatch.setattr(racing, "measure_job", measured)
    monkeypatch.setattr(planning, "measured", lambda *_: Size(None, 0.1, 1.0, 10))
    return {
        "data": {"name": "text", "root": str(tmp_path / "book.txt")},
        "task": {"name": "language"},
        "space": {"hidden": 4},
        "threads": 1,
        "device": "cpu",
    }


@pytest.mark.parametrize(("seconds", "columns"), [(900.0, 32), (300.0, 16)])
def test_a_text_is_read_in_as_many_columns_as_there_is_time_for(
    long_text: dict[str, Any], seconds: float, columns: int
) -> None:
    plan = make_plan(long_text, seconds, races=False)
    config = resolve(plan.config)
    assert config.search.batch_size == columns
    assert plan.search_seconds < 0.25 * seconds
    assert any("--search.batch_size 16" in note for note in plan.notes) == (columns == 16)
    assert config.task.sampled_words is None  # type: ignore[attr-defined]  # of ten words


def test_a_text_that_is_too_large_for_one_pass_is_read_in_part(
    long_text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "measured", lambda *_: Size(None, 0.5, 1.0, 1000, 70_000))
    plan = make_plan(long_text, 300.0, races=False)
    (note,) = [note for note in plan.notes if "one pass over all 70,000 words takes about 8" in note]
    words = int(note.partition("reads about ")[2].split()[0].replace(",", ""))
    assert plan.train_seconds == pytest.approx(0.5 * words / 70 + 1)
    assert 0.8 * 300 < plan.search_seconds + plan.train_seconds < 300
    assert resolve(plan.config).train.examples is None  # settled when it begins
    assert note in plan.text()


@pytest.mark.parametrize("own", [{"epochs": 1}, {"examples": 60_000}])
def test_a_length_that_is_given_stands_however_long_it_takes(
    long_text: dict[str, Any], monkeypatch: pytest.MonkeyPatch, own: dict[str, int]
) -> None:
    monkeypatch.setattr(sizing, "measure_job", lambda *_: (10.0, 1.0))
    monkeypatch.setattr(planning, "measured", sizing.measured)
    plan = make_plan({**long_text, "train": own}, 300.0, races=False)
    assert not any("one pass" in note for note in plan.notes)
    assert plan.train_seconds > 300


def test_what_of_a_text_is_read_is_known_from_its_steps(
    long_text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "measure_job", lambda *_: (10.0, 1.0))
    monkeypatch.setattr(planning, "measured", sizing.measured)
    plan = make_plan(long_text, 300.0, races=False)
    words = load_task(resolve(plan.config), torch.device("cpu")).describe()["train"]
    assert any(f"one pass over all {words:,} words" in note for note in plan.notes)


def test_columns_that_are_given_stay(long_text: dict[str, Any]) -> None:
    long_text["search"] = {"batch_size": 32}
    assert resolve(make_plan(long_text, 300.0, races=False).config).search.batch_size == 32


def test_too_little_time_for_a_text_does_not_speak_of_images(long_text: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"allow .*, or make it smaller \(--space.hidden\)"):
        make_plan(long_text, 20.0)


def test_trainings_of_a_race_that_is_out_of_the_question_are_not_timed(
    long_text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(*_: object) -> Pace:
        raise AssertionError

    monkeypatch.setattr(racing.Planner, "training_pace", timed)
    monkeypatch.setattr(planning, "measured", lambda *_: Size(None, 0.5, 1.0, 120))
    plan = make_plan(long_text, 300.0, others=("darts_v2_rnn",))
    assert plan.race is None
    assert any("too short to train darts_v2_rnn" in note for note in plan.notes)
    assert any("too short for a race" in note for note in plan.notes)


@pytest.mark.parametrize(("kind", "seconds"), [("long_text", 15.0), ("given", 5.0)])
def test_what_is_measured_again_at_the_end_has_its_time(
    kind: str, seconds: float, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = request.getfixturevalue(kind)
    monkeypatch.setattr(sizing, "measure_job", lambda *_: (0.1, 5.0))
    if kind == "given":
        settings["task"] |= {"train_augment": {"cutout": 0}}
        settings["train"] |= {"cells": 3}
    config = resolve({**settings, "train": {**settings.get("train", {}), "channels": 4}})
    (candidate,) = islice(random_candidates(config), 1)
    size = sizing.measured(candidate.architecture, config, load_task(config, torch.device("cpu")), torch.device("cpu"))
    assert size.measure == seconds
