"""What a run was made on is recorded, taken over by a training of its cell, and asked for again when measuring."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import datanas
from datanas.core.settings import parse_yaml

CLASSES = ("ant", "bee", "cow")
SMALL = (
    *("--device", "cpu", "--space.cells", 3, "--space.channels", 2, "--space.nodes", 5, "--search.epochs", 1),
    *("--search.batch_size", 8, "--search.gap.examples", 9, "--search.gap.children", 2, "--quiet"),
)
TRAINED = (
    *("--train.channels", 2, "--train.cells", 3, "--train.epochs", 1, "--train.batch_size", 8),
    *("--train.auxiliary", "false", "--task.train_augment.cutout", 0, "--quiet"),
)


class Runs(NamedTuple):
    """Class folders, and a search and a training on them."""

    data: Path
    search: Path
    train: Path


@pytest.fixture(scope="module")
def made(cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """In a folder that no test may change."""
    root = tmp_path_factory.mktemp("known-data")
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (root / "data" / name).mkdir(parents=True)
        for image in range(12):
            pixels = random.integers(0, 60, (8, 8, 3)) + 80 * number
            Image.fromarray(pixels.astype(np.uint8)).save(root / "data" / name / f"{image}.png")
    data = ["--data.name", "folder", "--data.root", root / "data", "--data.test_share", 0.25, "--run.root", root]
    assert cli("search", *data, *SMALL, "--run.name", "search").code == 0
    trained = cli("train", root / "search", *TRAINED, "--run.root", root, "--run.name", "train")
    assert trained.code == 0, trained.err
    return Runs(root / "data", root / "search", root / "train")


@pytest.fixture
def runs(made: Runs, tmp_path: Path) -> Runs:
    """Copies that a test may change; the configurations name the copied data."""
    copy = Path(shutil.copytree(made.data.parent, tmp_path / "copy"))
    for kind in ("search", "train"):
        config = copy / kind / "config.yaml"
        config.write_text(config.read_text().replace(str(made.data.parent), str(copy)))
    return Runs(copy / "data", copy / "search", copy / "train")


def rename(data: Path) -> None:
    (data / "ant").rename(data / "zebra")


def remove(data: Path) -> None:
    (data / "bee" / "3.png").unlink()


def change(data: Path) -> None:
    Image.new("RGB", (8, 8)).save(data / "cow" / "0.png")


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_run_says_what_it_was_made_on(made: Runs, kind: str) -> None:
    record = json.loads((made.data.parent / kind / "data.json").read_text())
    assert (record["data"], record["task"], record["outputs"]) == ("folder", "classification", list(CLASSES))
    assert (record["train"], record["test"], record["shape"]) == (27, 9, [3, 8, 8])


def test_it_is_shown_at_the_start(made: Runs, cli: Callable[..., Any]) -> None:
    shown = cli("train", "--resume", made.train).err.splitlines()
    assert shown[0] == "classification on data folder: 3 classes, train 27, test 9, shape 3x8x8"
    assert shown[1] == "images are not mirrored (task.search_augment.flip), not mirrored (task.train_augment.flip)"


def test_so_are_groups_and_uneven_classes(cli: Callable[..., Any], tmp_path: Path) -> None:
    labels = np.array([0] * 6 + [1] * 42)
    x = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "given.npz", train_x=x, train_y=labels, test_x=x, test_y=labels, train_groups=np.arange(48) // 2
    )
    data = ("--data.name", "npz", "--data.root", tmp_path / "given.npz", "--run.root", tmp_path)
    shown = cli("search", *data, *(each for each in SMALL if each != "--quiet")).err
    assert shown.count("the images for training are in 24 groups, which no split parts\n") == 1
    assert "classes are uneven" in shown


@pytest.mark.parametrize("command", ["evaluate", "export"])
@pytest.mark.parametrize("fault", [remove, change])
def test_other_examples_are_refused_unasked(
    runs: Runs, cli: Callable[..., Any], tmp_path: Path, fault: Callable[[Path], None], command: str
) -> None:
    """An image that is gone moves others between training and test images."""
    fault(runs.data)
    where = [tmp_path / "exported"] if command == "export" else []
    outcome = cli(command, runs.train, *where)
    assert (outcome.code, outcome.out) == (8, "")
    assert "the examples have changed since" in outcome.err
    assert f"--data.root {runs.data}" in outcome.err
    assert not (tmp_path / "exported").exists()


def test_examples_that_are_named_are_measured_with_a_warning(
    runs: Runs, cli: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    change(runs.data)
    outcome = cli("evaluate", runs.train, "--data.root", runs.data)
    assert outcome.code == 0, outcome.err
    assert "these are not the examples that" in caplog.text


def test_the_same_examples_elsewhere_are_no_others(
    made: Runs, cli: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = shutil.copytree(made.data, tmp_path / "moved")
    found = cli("evaluate", made.train, "--data.root", moved)
    assert found == cli("evaluate", made.train)
    assert found.code == 0
    assert not caplog.records


def test_other_classes_are_refused_even_where_they_are_named(runs: Runs, cli: Callable[..., Any]) -> None:
    rename(runs.data)
    outcome = cli("evaluate", runs.train, "--data.root", runs.data)
    assert (outcome.code, outcome.out) == (8, "")
    assert "has the classes bee, cow, zebra; the network of" in outcome.err
    assert "was trained for ant, bee, cow" in outcome.err


def test_a_run_of_an_older_version_passes(runs: Runs, cli: Callable[..., Any]) -> None:
    (runs.train / "data.json").unlink()
    change(runs.data)
    assert cli("evaluate", runs.train).code == 0


def test_a_search_has_nothing_to_evaluate(made: Runs, cli: Callable[..., Any]) -> None:
    outcome = cli("evaluate", made.search)
    assert outcome.code == 3
    assert f"a search has no trained network; train its cell: datanas train {made.search}" in outcome.err


def test_settings_of_another_network_are_told(made: Runs, cli: Callable[..., Any]) -> None:
    outcome = cli("evaluate", made.train, "--train.channels", 3)
    assert outcome.code == 3
    assert "size mismatch for" in outcome.err


def printed(cli: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    outcome = cli("train", *arguments, "--print-config")
    assert outcome.code == 0, outcome.err
    return dict(parse_yaml(outcome.out))


def test_a_training_takes_data_and_task_of_the_search(made: Runs, cli: Callable[..., Any]) -> None:
    config = printed(cli, made.search)
    assert (config["data"]["name"], config["data"]["root"]) == ("folder", str(made.data))
    assert config["data"]["test_share"] == 0.25
    assert printed(cli, made.search, "--data.test_share", 0.5)["data"]["root"] == str(made.data)
    assert config["run"]["name"] is None
    assert config["train"] == printed(cli, "gdas")["train"]


def test_what_is_asked_for_is_not_taken_from_the_search(made: Runs, cli: Callable[..., Any], tmp_path: Path) -> None:
    assert printed(cli, made.search, "--data.name", "photos")["data"]["name"] == "photos"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 3\n")
    assert printed(cli, made.search, "-c", recipe)["data"]["name"] == "photos"
    assert printed(cli, made.search / "architecture.json")["data"]["name"] == "photos"


def test_the_same_holds_in_python(made: Runs, tmp_path: Path) -> None:
    small = {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 8, "auxiliary": False}
    config = {"run": {"root": str(tmp_path)}, "device": "cpu", "train": small}
    config["task"] = {"train_augment": {"cutout": 0}}
    found = datanas.train(made.search, config, quiet=True)
    assert json.loads((found.path / "data.json").read_text())["data"] == "folder"
    named = datanas.train("gdas", {**config, "data": {"name": "folder", "root": str(made.data)}}, quiet=True)
    assert datanas.Architecture.load(named.path / "architecture.json") == datanas.architecture("gdas")


def test_the_recipe_of_a_search_needs_another_name(made: Runs, cli: Callable[..., Any]) -> None:
    outcome = cli("train", made.search, "-c", made.search / "config.yaml", *TRAINED)
    assert outcome.code == 3
    assert "this is a search run; choose another --run.name" in outcome.err
