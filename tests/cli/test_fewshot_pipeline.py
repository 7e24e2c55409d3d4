"""search, train, evaluate and going on with class folders, and few-shot input that cannot be had."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from datanas import Architecture
from datanas.core.settings import parse_yaml
from datanas.runs import read_metrics

FIGURES = re.compile(r"valid error (\S+)% .*, test error (\S+)% \(score \S+%, loss \S+\), [\d,]+ parameters, ")
CLASSES = {"train": 8, "val": 3, "test": 3}


def write_classes(root: Path, each: int = 5, side: int = 8) -> Path:
    """Stripes of which the class decides the direction and width, with noise."""
    random = np.random.default_rng(0)
    numbers = iter(range(sum(CLASSES.values())))
    for part, count in CLASSES.items():
        for number in [next(numbers) for _ in range(count)]:
            folder = root / part / f"class{number:02d}"
            folder.mkdir(parents=True)
            stripes = np.sin(np.arange(side) * (1 + number // 2)) * np.ones((side, 1))
            for image in range(each):
                pixels = 128 + 60 * (stripes if number % 2 else stripes.T) + random.normal(0, 20, (side, side))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{image}.png")
    return root


def settings(data: Path, runs: Path) -> Iterator[str]:
    sections = {
        "run": {"root": str(runs), "name": "run", "checkpoint_every": 1},
        "device": "cpu",
        "data": {"name": "class_folders", "root": str(data), "channels": 1},
        "task": {
            "name": "fewshot",
            "search": {"way": 3, "query": 2},
            "train": {"way": 4, "query": 2},
            "test": {"way": 2, "query": 2, "episodes": 30},
            "episodes": 6,
            "train_augment": {"crop_padding": 1, "flip": True},
        },
        "space": {"cells": 3, "channels": 2, "nodes": 5},
        "search": {"epochs": 2, "batch_size": 2, "gap": {"children": 2, "examples": 20, "statistics_batches": 1}},
        "train": {"channels": 4, "cells": 3, "epochs": 2},
    }

    def flatten(section: dict[str, Any], path: str) -> Iterator[str]:
        for name, value in section.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{path}{name}.")
            else:
                yield from (f"--{path}{name}", value if isinstance(value, str) else json.dumps(value))

    return flatten(sections, "")


class Pipeline(NamedTuple):
    """The classes, and what search and training have left of them."""

    data: Path
    search: Path
    train: Path
    printed: dict[str, Any]


@pytest.fixture(scope="module")
def pipeline(cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    root = tmp_path_factory.mktemp("fewshot")
    data = write_classes(root / "data")
    given = [*settings(data, root)]
    search, train = root / "search", root / "train"
    conv4 = ["--task.stem", "none", "--train.cells", 4, "--train.channels", 3, "--run.name", "conv4"]
    printed = {
        "search": cli("search", *given, "--run.name", "search"),
        "train": cli("train", search, *given, "--run.name", "train"),
        "evaluate": cli("evaluate", train),
        "conv4": cli("train", "conv4", *given, *conv4),
        "transfer": cli("train", "gdas", *given, "--run.name", "transfer", "--task.test.shot", 2),
    }
    assert {name: outcome.code for name, outcome in printed.items()} == dict.fromkeys(printed, 0), printed
    return Pipeline(data, search, train, printed)


@pytest.mark.parametrize("command", ["train", "evaluate", "conv4", "transfer"])
def test_accuracy_and_its_interval_are_printed(pipeline: Pipeline, command: str) -> None:
    first, second, *_ = pipeline.printed[command].out.splitlines()
    assert FIGURES.match(first)
    assert re.fullmatch(r"  interval \d+\.\d\d%", second)


def test_evaluate_prints_what_training_printed_and_wrote(pipeline: Pipeline) -> None:
    assert pipeline.printed["evaluate"].out.splitlines() == pipeline.printed["train"].out.splitlines()[:3]
    written = json.loads((pipeline.train / "evaluation.json").read_text())
    assert written["score_name"] == "accuracy"
    assert 0 < written["figures"]["interval"] < 0.5
    assert f"  interval {100 * written['figures']['interval']:.2f}%\n" in pipeline.printed["train"].out
    assert 0 <= written["validation"]["score"] <= 1


def test_a_search_keeps_a_cell_and_says_on_what(pipeline: Pipeline) -> None:
    kept = Architecture.load(pipeline.search / "architecture.json")
    assert set(kept.cells) == {"normal", "reduce"}
    assert (kept.source or {})["data"]["train"] == {"classes": 8, "images": 40}
    lines = read_metrics(pipeline.search)
    assert len(lines) == 2
    assert all(0 <= line["gap/child"] <= 1 for line in lines)
    assert all(0 <= line["validation/accuracy"] <= 1 for line in read_metrics(pipeline.train))


def test_a_search_that_was_cut_off_ends_as_it_would_have(pipeline: Pipeline, goes_on: Callable[[Path], None]) -> None:
    goes_on(pipeline.search)


def test_a_training_that_is_gone_on_with_ends_as_one_that_was_not(
    pipeline: Pipeline, cli: Callable[..., Any], runs: Path
) -> None:
    given = [*settings(pipeline.data, runs)]
    assert cli("train", pipeline.search, *given, "--train.epochs", 1).code == 0
    assert cli("train", "--resume", runs / "run", *given, "--train.epochs", 2).code == 0
    for file in ("network.safetensors", "evaluation.json"):
        assert (runs / "run" / file).read_bytes() == (pipeline.train / file).read_bytes()


def test_the_network_to_compare_with_is_trained_by_the_same_recipe(
    pipeline: Pipeline, cli: Callable[..., Any], runs: Path
) -> None:
    assert cli("train", "conv4", *settings(pipeline.data, runs), "--train.epochs", 1).code == 0
    config = parse_yaml((runs / "run" / "config.yaml").read_text())
    assert (config["task"]["stem"], config["train"]["network"]) == ("none", "conv4")
    assert cli("train", "conv4", *settings(pipeline.data, runs), "--train.epochs", 2).code == 0  # it goes on


def only_one(data: Path) -> None:
    (data / "train" / "class03" / "0.png").rename(data / "kept.png")
    shutil.rmtree(data / "train" / "class03")
    (data / "train" / "class03").mkdir()
    (data / "kept.png").rename(data / "train" / "class03" / "0.png")


def without_most_tests(data: Path) -> None:
    for folder in sorted((data / "test").iterdir())[1:]:
        shutil.rmtree(folder)


def shared(data: Path) -> None:
    shutil.copytree(data / "train" / "class00", data / "test" / "class00")


SPOILT = [
    (only_one, "has 1 images, an episode takes 3 of each class (1 to learn from, 2 to recognise)"),
    (without_most_tests, "task.test.way: episodes of 2 classes cannot be drawn from the part 'test', which has 1"),
    (shared, "class 'class00' is in train and in test; each part needs classes of its own"),
]


@pytest.mark.parametrize("command", [["search"], ["train", "gdas"]], ids=["search", "train"])
@pytest.mark.parametrize(("spoil", "message"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_bad_classes(
    pipeline: Pipeline,
    refused: Callable[..., None],
    runs: Path,
    tmp_path: Path,
    command: list[str],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    data = Path(shutil.copytree(pipeline.data, tmp_path / "data"))
    spoil(data)
    refused(8, message, *command, *settings(data, runs))


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "task.search.way: must be at least 2, got 1", ["search", "--task.search.way", 1]),
        (8, "task.search.way: episodes of 5 classes cannot be drawn", ["search", "--task.search.way", 5]),
        (8, "task.train.way: episodes of 9 classes cannot", ["train", "gdas", "--task.train.way", 9]),
        (
            2,
            "task.stem: a network behind the stem imagenet divides height and width by 32",
            ["train", "gdas", "--task.stem", "imagenet"],
        ),
        (
            2,
            "train.validation: task fewshot brings a part for validation",
            ["train", "gdas", "--train.validation", 0.3],
        ),
        (2, "train.auxiliary: task fewshot has no auxiliary", ["train", "gdas", "--train.auxiliary", "true"]),
        (2, "data.name: task fewshot takes image data sets", ["search", "--data", '{"name": "manual"}']),
    ],
)
def test_bad_settings(
    pipeline: Pipeline, refused: Callable[..., None], runs: Path, code: int, message: str, arguments: list[Any]
) -> None:
    command, *overrides = arguments
    architecture = [overrides.pop(0)] if command == "train" else []
    refused(code, message, command, *architecture, *settings(pipeline.data, runs), *overrides)
