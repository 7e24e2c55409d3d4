"""A whole fit on tiny images: what it leaves, that it goes on, and that a plan can be repeated."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.inside import Inside

from datanas.cli import main
from datanas.comparison import pool
from datanas.core.errors import CheckpointError, ConfigError, Interrupted
from datanas.deploy.export import export
from datanas.engine.config import resolve
from datanas.engine.earlier_run import load_run_config
from datanas.engine.evaluation import compare_trained, evaluate
from datanas.engine.setup import build_space
from datanas.fitting import fit as fitting
from datanas.fitting import stages
from datanas.fitting.fit import fit
from datanas.fitting.outcome import Outcome
from datanas.fitting.plan import Plan, Race
from datanas.fitting.sizing import Size
from datanas.fitting.stages import FitResult
from datanas.racing import race
from datanas.racing.candidates import most_promising


def plan_for(given: Any, seconds: float, **_: Any) -> Plan:
    """Of tiny networks, so that a fit takes seconds."""
    config = resolve(given).model_dump(mode="json")
    config["search"]["choice"] = "race"
    return Plan(seconds, config, 1.0, 1.0, Race(2, 1, 12, ("resnet18",), 1.0))


class Settled(Size):
    """What is trained for as many epochs whatever the time."""

    epochs = 3

    def epochs_in(self, seconds: float) -> int:
        return self.epochs


class Unmoved:
    """Keeps a training as long as it is, however much time is left."""

    def __init__(self, *_: Any) -> None:
        pass

    def begin(self) -> None:
        pass

    def revise(self, epoch: int, epochs: int) -> int:
        return epochs


class Late(Unmoved):
    """Cuts it by one epoch after the first."""

    def revise(self, epoch: int, epochs: int) -> int:
        return epochs - 1 if epoch == 1 else epochs


def settings(root: Path, name: str = "fit") -> dict[str, Any]:
    return {
        "task": {"stem": "plain", "train_augment": {"cutout": 2}},
        "space": {"name": "nasbench201", "channels": 2},
        "search": {"epochs": 2, "batch_size": 6, "judge": 0.25, "gap": {"children": 2, "examples": 6}},
        "train": {"channels": 2, "cells": 3, "epochs": 2, "batch_size": 6, "max_macs": 60_000, "auxiliary": False},
        "run": {"root": str(root), "name": name},
        "threads": 1,
        "device": "cpu",
    }


@contextmanager
def quick_stages() -> Iterator[None]:
    """Fits are planned, settled and raced in no time, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "make_plan", plan_for)
        patch.setattr(stages, "measured", lambda *_: Settled(None, 0.1, 0.1, 3))
        patch.setattr(stages, "Deadline", Unmoved)
        patch.setattr(pool, "_start", Inside().start)
        patch.setattr(pool, "_POLL", 0.0)
        yield


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_stages():
        yield


@pytest.fixture(scope="module")
def done(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(tiny_images, 30.0, config=settings(tmp_path_factory.mktemp("runs")), quiet=True)


def test_a_fit_is_evaluated_by_its_own_folder(done: FitResult, tmp_path: Path) -> None:
    assert evaluate(done.path) == evaluate(done.path / "train")
    rows, _ = compare_trained([done.path / "train", done.path])
    assert [row["name"] for row in rows] == ["train", done.path.name]
    assert rows[0]["value"] == rows[1]["value"]
    other = shutil.copytree(done.path, tmp_path / "other")
    rows, _ = compare_trained([done.path / "train", other / "train"])
    assert [row["name"] for row in rows] == [str(done.path / "train"), str(other / "train")]
    assert export(done.path, tmp_path / "exported").is_dir()


@pytest.mark.parametrize("missing", ["train", "train/network.safetensors"])
def test_a_fit_without_a_network_says_how_to_finish(done: FitResult, tmp_path: Path, missing: str) -> None:
    killed = shutil.copytree(done.path, tmp_path / "killed")
    if missing == "train":
        shutil.rmtree(killed / missing)
    else:
        (killed / missing).unlink()
    with pytest.raises(CheckpointError, match=rf"finish it with datanas fit --resume {re.escape(str(killed))[:60]}"):
        evaluate(killed)


def network(result: FitResult) -> bytes:
    return (result.export / "model.safetensors").read_bytes()


def test_a_fit_leaves_an_exported_network_and_says_how_good_it_is(done: FitResult) -> None:
    found = json.loads((done.path / "fit.json").read_text())
    assert found["score"] == done.outcome.score
    assert done.outcome.examples == 12
    assert (done.export / "config.json").is_file()
    low, high = done.outcome.interval or (0.0, 0.0)
    assert 0 <= low <= done.outcome.score <= high <= 1


@pytest.mark.parametrize(("epochs", "cutout"), [(2, 0), (40, 3)])
def test_width_and_length_are_settled_when_the_training_begins(
    done: FitResult, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, cutout: int
) -> None:
    def free_plan(given: Any, seconds: float, **_: Any) -> Plan:
        plan = plan_for(given, seconds)
        plan.config["task"]["train_augment"]["cutout"] = 0
        return replace(plan, is_free=True, cutout=3)

    length = type("Long", (Settled,), {"epochs": epochs})
    monkeypatch.setattr(fitting, "make_plan", free_plan)
    monkeypatch.setattr(stages, "settled_size", lambda *_: (4, length(None, 0.1, 0.1, 3)))
    result = fit(tiny_images, 30.0, config=settings(tmp_path), quiet=True)
    config = yaml.safe_load((result.path / "train" / "config.yaml").read_text())
    assert (config["train"]["channels"], config["train"]["epochs"]) == (4, epochs)
    assert config["task"]["train_augment"]["cutout"] == cutout
    plan = json.loads((result.path / "plan.json").read_text())
    assert (plan["width"], plan["epochs"], plan["settled_for"]) == (4, epochs, result.architecture.digest)


def test_a_settled_width_is_of_its_winner_alone(
    done: FitResult, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done.path, tmp_path / "first")
    plan = json.loads((tmp_path / "first" / "plan.json").read_text())
    (tmp_path / "first" / "plan.json").write_text(json.dumps({**plan, "width": 5, "settled_for": "another"}))
    result = fit(tiny_images, 30.0, config=settings(tmp_path), same_plan_as=tmp_path / "first", quiet=True)
    assert network(result) == network(done)  # as wide as the bound of the plan allows


def test_further_figures_stand_beside_the_score_and_earlier_fits_have_none(done: FitResult) -> None:
    found = {**done.outcome.to_json(), "further": {"balanced_accuracy": "71.2%"}}
    assert "test examples, balanced_accuracy 71.2%" in Outcome.from_json(found).text()
    del found["further"]
    assert Outcome.from_json(found).further == {}


def test_a_training_without_time_for_one_pass_is_of_fewer_images_and_is_repeated_so(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(Settled):
        epochs = 1

        def examples_in(self, seconds: float) -> int | None:
            return 18

    with monkeypatch.context() as patch:
        patch.setattr(stages, "measured", lambda *_: Short(None, 0.1, 0.1, 3, 48))
        short = fit(tiny_images, 30.0, config=settings(tmp_path), quiet=True)
    config = yaml.safe_load((short.path / "train" / "config.yaml").read_text())["train"]
    assert (config["examples"], config["epochs"]) == (18, 1)
    again = fit(tiny_images, 30.0, config=settings(tmp_path, "again"), same_plan_as=short.path, quiet=True)
    assert network(again) == network(short)


def test_a_lead_is_shown_as_an_earlier_version_kept_it(done: FitResult) -> None:
    found = json.loads(json.dumps(done.outcome.to_json()))
    for each in found["compared"]:
        del each["ahead_shown"]
    assert Outcome.from_json(found).compared == done.outcome.compared


def test_without_a_race_what_would_be_first_in_it_is_trained_and_named(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "make_plan", lambda *given, **_: replace(plan_for(*given), race=None))
    alone = fit(tiny_images, 30.0, config=settings(tmp_path), quiet=True)
    first = most_promising(alone.path / "search", build_space(load_run_config(alone.path / "search")))
    assert first is not None
    assert alone.architecture.digest == first.digest
    assert alone.outcome.origin == (first.source or {})["origin"]
    assert alone.outcome.origin.startswith("searched: likeliest within 60%")
    assert "nothing was compared" in alone.outcome.text()


def test_the_references_of_the_race_stand_beside_it(done: FitResult) -> None:
    origins = {each.origin for each in done.outcome.compared}
    searched = {origin for origin in origins if origin.startswith("searched: likeliest within ")}
    assert searched
    assert origins - searched == {"random", "reference: resnet18"}
    best = max(each.score for each in done.outcome.compared)
    assert done.outcome.compared[0].score == best
    assert done.outcome.compared[0].origin == done.outcome.origin
    assert "reference: resnet18" in done.outcome.text()


def test_a_network_of_timm_wins_and_is_what_is_kept(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "timm:test_resnet"

    def free_plan(given: Any, seconds: float, others: Any = (), **_: Any) -> Plan:
        return replace(plan_for(given, seconds), race=Race(2, 1, 12, tuple(others), 1.0), is_free=True)

    def order_it_first(found: Any) -> list[int]:
        return sorted(found, key=lambda number: found[number].macs, reverse=True)

    monkeypatch.setattr(fitting, "make_plan", free_plan)
    monkeypatch.setattr(race, "order", order_it_first)
    result = fit(tiny_images, 30.0, config=settings(tmp_path), references=[asked], quiet=True)
    assert result.outcome.origin == f"reference: {asked}"
    assert [*result.architecture.cells["timm"].primitives] == ["test_resnet"]
    assert result.outcome.macs > 60_000  # of which our own networks have no more
    assert len(result.predict(np.zeros((2, 8, 8, 3), np.uint8))) == 2


def test_what_is_not_known_is_said_before_the_data_are_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing.npz"
    nowhere.write_bytes(b"")
    with pytest.raises(ConfigError, match="no model 'resnet_18' is known"):
        fit(nowhere, 30.0, config=settings(tmp_path), references=["timm:resnet_18"], quiet=True)


def test_a_finished_fit_says_the_same_again(
    done: FitResult, monkeypatch: pytest.MonkeyPatch, tiny_images: Path
) -> None:
    monkeypatch.setattr(pool, "_start", lambda *_: pytest.fail("a training was started"))
    again = fit(tiny_images, 30.0, config=settings(done.path.parent), quiet=True)
    assert again.outcome.score == done.outcome.score
    assert again.outcome.compared == done.outcome.compared


@pytest.mark.parametrize("stage", ["search", "race", "train"])
def test_a_fit_that_was_stopped_goes_on_to_the_same_network(
    done: FitResult, tiny_images: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = done.path
    with monkeypatch.context() as patch:
        patch.setattr(stages, stage, _stops)
        with pytest.raises(Interrupted, match=f"go on with: datanas fit --resume {tmp_path / 'fit'}"):
            fit(tiny_images, 30.0, config=settings(tmp_path), same_plan_as=plan, quiet=True)
    assert network(fit(resume=tmp_path / "fit", quiet=True)) == network(done)


def _stops(*_: Any, **__: Any) -> None:
    raise Interrupted("interrupted; go on with: datanas something", 15)


def test_a_training_that_is_cut_short_is_repeated_so_by_its_plan(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stages, "Deadline", Late)
        late = fit(tiny_images, 30.0, config=settings(tmp_path), quiet=True)
    config = yaml.safe_load((late.path / "train" / "config.yaml").read_text())["train"]
    assert (config["epochs"], config["revised"]) == (3, [[1, 3, 2]])
    monkeypatch.setattr(stages, "Deadline", lambda *_: pytest.fail("a plan that is repeated follows no time"))
    again = fit(tiny_images, 30.0, config=settings(tmp_path, "again"), same_plan_as=late.path, quiet=True)
    assert network(again) == network(late)
    assert "2 epochs" in (again.export / "README.md").read_text()


def test_a_cut_training_goes_on_as_it_was_cut(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Late):
        def revise(self, epoch: int, epochs: int) -> int:
            if epochs == 4 and epoch == 2:
                raise Interrupted("interrupted; go on with: datanas something", 15)
            return super().revise(epoch, epochs)

    monkeypatch.setattr(Settled, "epochs", 5)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "Deadline", Late)
        whole = fit(tiny_images, 30.0, config=settings(tmp_path), quiet=True)
        patch.setattr(stages, "Deadline", Killed)
        with pytest.raises(Interrupted):
            fit(tiny_images, 30.0, config=settings(tmp_path, "killed"), quiet=True)
        patch.setattr(stages, "Deadline", Late)
        assert network(fit(resume=tmp_path / "killed", quiet=True)) == network(whole)


def test_an_export_that_was_killed_is_made_anew(done: FitResult, tmp_path: Path) -> None:
    shutil.copytree(done.path, tmp_path / "fit")
    (tmp_path / "fit" / "fit.json").unlink()
    (tmp_path / "fit" / "export" / "config.json").unlink()
    assert network(fit(resume=tmp_path / "fit", quiet=True)) == network(done)


def test_a_plan_is_repeated_whole_or_not_at_all(done: FitResult, tiny_images: Path, tmp_path: Path) -> None:
    given = {**settings(tmp_path), "search": {"epochs": 3}}
    with pytest.raises(ConfigError, match=r"same_plan_as: .* has another search"):
        fit(tiny_images, 30.0, config=given, same_plan_as=done.path, quiet=True)
    assert not (tmp_path / "fit").exists()


def test_the_recipe_yields_to_the_data_that_are_named(tiny_images: Path) -> None:
    found = fitting.settings_of(tiny_images, None, {"data": "photos", "task": {"name": "clustering"}}, [])
    assert found["data"] == {"name": "npz", "root": str(tiny_images)}
    assert found["task"]["name"] == "classification"


def test_another_fit_under_the_same_name_is_refused(done: FitResult, tiny_images: Path) -> None:
    with pytest.raises(ConfigError, match="is a fit of other data, time or settings"):
        fit(tiny_images, 60.0, config=settings(done.path.parent), quiet=True)


def test_the_command_prints_cell_figures_and_where_they_are(
    done: FitResult, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--resume", str(done.path)]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "take this one" in said
    assert f"datanas predict {done.path} INPUT" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit"], 2, "fit needs data"),
        (["fit", "photos", "--time", "soon"], 2, "time: must be a time with its unit"),
        (["fit", "photos", "--max-macs", "much"], 2, "--max-macs"),
        (["fit", "/nowhere/at-all"], 8, "no such file or folder"),
        (["fit", "photos", "--sampler.samples", "0"], 2, "sampler.samples"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert message in capsys.readouterr().err
