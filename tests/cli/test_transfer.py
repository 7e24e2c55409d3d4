"""From class folders to an exported network, by the command line: train under a bound, evaluate, export, load."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

import datanas
import datanas.deploy.timm_models  # registers the models

CLASSES, BOUND = 7, 400_000


def write_images(root: Path, size: tuple[int, int] = (20, 14)) -> Path:
    """Noise of seven shades: six images a class for training, two for validation."""
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for label in range(CLASSES):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 40, (size[1], size[0], 3)) + 30 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


def settings(data: Path, runs: Path) -> list[str]:
    found = {
        "data.name": "image_files", "data.root": data, "data.size": 16, "data.resize": 18,
        "task.train_augment.cutout": 0, "task.train_augment.colour": 0.2, "task.label_smoothing": 0.1,
        "device": "cpu", "run.root": runs,
        "train.cells": 3, "train.epochs": 1, "train.batch_size": 8, "train.auxiliary": "true",
        "search.epochs": 1, "search.batch_size": 8, "space.cells": 3, "space.channels": 2, "space.nodes": 5,
        "search.gap.children": 2, "search.gap.statistics_batches": 1,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in found.items()]


class Transfer(NamedTuple):
    root: Path
    data: Path
    printed: dict[str, Any]


@pytest.fixture(scope="module")
def transfer(cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    """search, train, evaluate, export and a training of the reference, in a folder that no test may change."""
    root = tmp_path_factory.mktemp("transfer")
    data = write_images(root / "data")
    given = settings(data, root)
    train = ("train", root / "search", *given, "--max-macs", BOUND, "--run.name", "train")
    printed = {
        "search": cli("search", *given, "--run.name", "search"),
        "train": cli(*train),
        "again": cli(*train, "--train.epochs", 2),
        "evaluate": cli("evaluate", root / "train"),
        "export": cli("export", root / "train", root / "exported"),
        "reference": cli(
            "train", "resnet18", *given, "--max-macs", BOUND, "--run.name", "reference", "--train.cells", 8,
            "--train.auxiliary=false",
        ),
    }  # fmt: skip
    assert {name: outcome.code for name, outcome in printed.items()} == dict.fromkeys(printed, 0), printed
    return Transfer(root, data, printed)


@pytest.mark.parametrize("name", ["train", "reference"])
def test_the_network_is_as_wide_as_the_bound_allows(transfer: Transfer, name: str) -> None:
    written = json.loads((transfer.root / name / "evaluation.json").read_text())
    config = yaml.safe_load((transfer.root / name / "config.yaml").read_text())
    assert config["train"]["channels"] == written["channels"] > 1
    assert config["train"]["max_macs"] == BOUND
    assert 0.4 * BOUND < written["macs"] <= BOUND
    assert f"{written['channels']} channels, the most within 400,000 multiply-adds" in transfer.printed[name].out


def test_going_on_with_it_keeps_the_width(transfer: Transfer) -> None:
    first, again = (re.findall(r"[\d,]+ parameters, .*", transfer.printed[name].out) for name in ("train", "again"))
    assert first
    assert first == again
    assert "epoch 2/2" in transfer.printed["again"].err


def test_evaluate_measures_the_same_with_top_5(transfer: Transfer) -> None:
    lines = transfer.printed["again"].out.splitlines()
    assert transfer.printed["evaluate"].out.splitlines() == lines[:3]
    assert re.fullmatch(r"  top5 \d+\.\d\d%", lines[1])
    written = json.loads((transfer.root / "train" / "evaluation.json").read_text())
    assert written["score"] <= written["figures"]["top5"] <= 1


def test_what_was_exported_loads_here_and_in_timm(transfer: Transfer) -> None:
    folder = transfer.root / "exported"
    network = datanas.load_network(folder)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.randn(2, 3, 16, 16)
    assert network(x).shape == (2, CLASSES)
    torch.testing.assert_close(model(x), network(x))  # in another memory layout: the last digits may differ
    assert model.pretrained_cfg["crop_pct"] == pytest.approx(16 / 18)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("timm", 'timm.create_model("local-dir:FOLDER", pretrained=True)'),
        ("hub", "upload it: hf upload USER/given FOLDER .\nno licence is chosen: --license apache-2.0"),
    ],
)
def test_a_folder_for_timm_or_a_hub_says_what_comes_next(
    transfer: Transfer, cli: Callable[..., Any], tmp_path: Path, to: str, said: str
) -> None:
    folder = tmp_path / "given"
    outcome = cli("export", transfer.root / "train", folder, "--to", to)
    assert outcome.code == 0, outcome.err
    assert said.replace("FOLDER", str(folder)) in outcome.out
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, global_pool="").eval()
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, model.num_features, 4, 4)


def test_a_licence_is_for_cards(transfer: Transfer, cli: Callable[..., Any], tmp_path: Path) -> None:
    outcome = cli("export", transfer.root / "train", tmp_path / "net.pt2", "--to", "torch", "--license", "mit")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--license: is for the card of a folder" in outcome.err


def test_a_dry_run_names_the_width(transfer: Transfer, cli: Callable[..., Any]) -> None:
    outcome = cli("train", "gdas", *settings(transfer.data, transfer.root), "--max-macs", "0.4M", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert re.search(r"network +\d+ channels, ", outcome.out)


def test_profile_takes_a_bound(cli: Callable[..., Any]) -> None:
    options = ("--cells", 3, "--size", 16, "--device", "cpu", "--batch", 1, "--no-memory")
    out = cli("profile", "gdas", *options, "--max-macs", "1.25M").out
    (channels,) = re.findall(r"channels +(\d+), the most within 1,250,000 multiply-adds", out)
    (macs,) = re.findall(r"multiply-adds +([\d.]+) M", out)
    assert int(channels) > 1
    assert float(macs) <= 1.25


@pytest.mark.parametrize(
    ("code", "message", "options"),
    [
        (2, "train.max_macs: must be a number of multiply-adds such as 600M or 1.2G", ["--max-macs", "0"]),
        (2, "train.max_macs: must be a number of multiply-adds such as 600M or 1.2G", ["--max-macs", "many"]),
        (2, "train.max_macs: the narrowest network, of 1 channel, needs", ["--max-macs", "10"]),
        (2, "task.stem: a network behind the stem imagenet divides height and width by 32", ["--task.stem=imagenet"]),
        (2, "resize must be at least size (16), got 8", ["--data.resize=8"]),
        (8, "no such folder", ["--data.root=nowhere"]),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    transfer: Transfer, refused: Callable[..., None], runs: Path, code: int, message: str, options: list[str]
) -> None:
    refused(code, message, "train", "gdas", *settings(transfer.data, runs), *options)


def test_a_broken_file_ends_the_training_and_is_named(
    cli: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_images(tmp_path / "data")
    (data / "train" / "class3" / "2.jpg").write_bytes(b"no image")
    outcome = cli("train", "gdas", *settings(data, tmp_path / "runs"), "--train.channels=2")
    assert outcome.code == 8
    assert "class3/2.jpg is broken (not an image)" in outcome.err
    outcome = cli("train", "gdas", *settings(data, tmp_path / "more"), "--train.channels=2", "--data.skip_broken=true")
    assert outcome.code == 0, outcome.err
    assert "left out 1 broken of 42 images" in caplog.text


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "exists and is not empty", ["train", "data"]),
        (3, "a search has no network to export", ["search", "new"]),
        (3, "no finished training in", ["nowhere", "new"]),
        (2, "--max-macs finds them; give one of the two", []),
    ],
)
def test_export_and_profile_refuse_what_they_cannot_do(
    transfer: Transfer, cli: Callable[..., Any], code: int, message: str, arguments: list[str]
) -> None:
    command = ["export", *(transfer.root / name for name in arguments)]
    if not arguments:
        command = ["profile", "gdas", "--channels", 8, "--max-macs", "1M"]
    outcome = cli(*command)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert not (transfer.root / "new").exists()
