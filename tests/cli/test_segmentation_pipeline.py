"""search, train, evaluate on a tiny folder of images with masks: what is written and printed, going on, bad input."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from datanas import Architecture
from datanas.runs import read_metrics

SCORES = re.compile(r"valid miou (\S+)% \(loss \S+\), test miou (\S+)% \(loss \S+\), [\d,]+ parameters, ")


def write_images(folder: Path, count: int) -> None:
    """Bright discs on a dark ground, with void around them."""
    random = np.random.default_rng(count)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        height, width = ((16, 16), (16, 20))[index % 2]
        rows, columns = np.mgrid[:height, :width]
        distance = np.hypot(rows - random.integers(4, 12), columns - random.integers(4, 12))
        mask = np.where(distance < 4, 1, np.where(distance < 5, 255, 0)).astype(np.uint8)
        image = random.integers(0, 60, (height, width, 3)) + 150 * (mask == 1)[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")


class Chain(NamedTuple):
    """The data, settings for a folder of runs, and what each command printed."""

    data: Path
    settings: Callable[[Path], list[str]]
    root: Path
    printed: Mapping[str, Any]


@pytest.fixture(scope="module")
def chain(cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """In a folder that no test may change."""
    root = tmp_path_factory.mktemp("segmentation")
    for part, count in {"train": 14, "val": 4, "test": 5}.items():
        write_images(root / "data" / part, count)
    (root / "data" / "classes.txt").write_text("ground\ndisc\nghost\n")

    def settings(runs: Path) -> list[str]:
        given = {
            "run.root": runs,
            "run.checkpoint_every": 1,
            "device": "cpu",
            "data.name": "mask_folder",
            "data.root": root / "data",
            "task.name": "segmentation",
            "task.crop": 16,
            "task.head_channels": 4,
            "task.atrous_rates": "[1, 2]",
            "space.cells": 3,
            "space.channels": 2,
            "space.nodes": 5,
            "search.epochs": 2,
            "search.batch_size": 3,
            "search.gap": '{"children": 2, "examples": 5, "statistics_batches": 1}',
            "train.channels": 4,
            "train.cells": 3,
            "train.epochs": 2,
            "train.batch_size": 4,
        }
        return [argument for name, value in given.items() for argument in (f"--{name}", str(value))]

    printed = {
        "search": cli("search", *settings(root), "--run.name", "search"),
        "train": cli("train", root / "search", *settings(root), "--run.name", "train"),
        "evaluate": cli("evaluate", root / "train"),
    }
    assert {name: outcome.code for name, outcome in printed.items()} == dict.fromkeys(printed, 0), printed
    return Chain(root / "data", settings, root, printed)


def test_a_search_keeps_a_cell(chain: Chain) -> None:
    kept = Architecture.load(chain.root / "search" / "architecture.json")
    assert set(kept.cells) == {"normal", "reduce"}
    assert kept.source is not None
    assert kept.source["data"]["classes"] == ["ground", "disc", "ghost"]
    lines = read_metrics(chain.root / "search")
    assert [0 <= line["gap/child"] <= 1 for line in lines] == [True] * 2


def test_evaluate_prints_what_training_printed_and_wrote(chain: Chain) -> None:
    printed = chain.printed["evaluate"].out
    assert chain.printed["train"].out.startswith(printed.rstrip())
    written = json.loads((chain.root / "train" / "evaluation.json").read_text())
    found = SCORES.match(printed)
    assert found, printed
    assert found.groups() == (f"{100 * written['validation']['score']:.2f}", f"{100 * written['score']:.2f}")
    assert written["score_name"] == "miou"
    for name in ("iou/disc", "pixel_accuracy"):
        assert f"  {name} {100 * written['figures'][name]:.2f}%\n" in printed


def test_only_averaged_classes_have_a_figure(chain: Chain) -> None:
    figures = json.loads((chain.root / "train" / "evaluation.json").read_text())
    named = {name: value for name, value in figures["figures"].items() if name.startswith("iou/")}
    assert figures["score"] == pytest.approx(sum(named.values()) / len(named))
    assert {"iou/ground", "iou/disc"} <= set(named)


def test_validation_is_followed(chain: Chain) -> None:
    lines = read_metrics(chain.root / "train")
    assert [0 <= line["validation/miou"] <= 1 for line in lines] == [True] * 2


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_run_that_was_cut_off_ends_as_it_would_have(chain: Chain, goes_on: Callable[[Path], None], kind: str) -> None:
    goes_on(chain.root / kind)


def test_options_of_the_test_hold_for_a_trained_network(chain: Chain, cli: Callable[..., Any]) -> None:
    views = cli("evaluate", chain.root / "train", "--task.test_scales", "[0.75, 1.5]", "--task.test_flip", "true")
    assert views.code == 0, views.err
    assert views.out != chain.printed["evaluate"].out
    scored = cli("evaluate", chain.root / "train", "--task.classes", '["disc"]')
    assert "iou/disc" in scored.out
    assert "iou/ground" not in scored.out


def test_a_backbone_is_taken_over(chain: Chain, cli: Callable[..., Any], tmp_path: Path) -> None:
    more = ["--train.start_from", chain.root / "train", "--task.output_stride", "4", "--run.name", "next"]
    outcome = cli("train", chain.root / "search", *chain.settings(tmp_path), *more, "--train.epochs", "1")
    assert outcome.code == 0, outcome.err


def no_mask(data: Path) -> None:
    (data / "train" / "masks" / "3.png").unlink()


def other_size(data: Path) -> None:
    Image.new("L", (9, 9)).save(data / "test" / "masks" / "2.png")


def high_label(data: Path) -> None:
    Image.new("L", (20, 16), 17).save(data / "train" / "masks" / "1.png")


def tiny_image(data: Path) -> None:
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        Image.new(mode, (5, 20)).save(data / "val" / kind / "0.png")


def one_class(data: Path) -> None:
    (data / "classes.txt").write_text("ground\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_mask, "3.png has no mask in"),
        (other_size, "test image 2.png is 16x16, its mask 9x9"),
        (high_label, "train mask 1.png has the value 17"),
        (tiny_image, "validation image 0.png is 5x20"),
        (one_class, "only one class"),
    ],
)
@pytest.mark.parametrize("command", ["search", "train"])
def test_bad_data_leave_no_run(
    spoil: Callable[[Path], None],
    message: str,
    command: str,
    chain: Chain,
    refused: Callable[..., None],
    tmp_path: Path,
) -> None:
    data = Path(shutil.copytree(chain.data, tmp_path / "data"))
    spoil(data)
    architecture = [] if command == "search" else [chain.root / "search"]
    refused(8, message, command, *architecture, *chain.settings(tmp_path / "runs"), "--data.root", data)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("--task.classes", '["disk"]', "task.classes: the data have no class 'disk'; did you mean 'disc'?"),
        ("--task.output_stride", "16", "output_stride: stem cifar_half allows 8, 4, 2, got 16"),
        ("--train.batch_size", "1", "train.batch_size: must be at least 2 for task segmentation"),
        ("--train.validation", "0.5", "train.validation: task segmentation brings a part for validation"),
    ],
)
def test_bad_settings_leave_no_run(
    name: str, value: str, message: str, chain: Chain, refused: Callable[..., None], tmp_path: Path
) -> None:
    refused(2, message, "train", chain.root / "search", *chain.settings(tmp_path / "runs"), name, value)


def test_a_task_of_other_data_is_refused(chain: Chain, refused: Callable[..., None], tmp_path: Path) -> None:
    settings = [*chain.settings(tmp_path / "runs"), "--task", '{"name": "classification"}']
    refused(2, "task classification takes image data sets", "search", *settings)
