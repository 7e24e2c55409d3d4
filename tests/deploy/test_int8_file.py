"""An 8-bit file answers nearly as the network does, is smaller, and says by how much."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import datanas
from datanas.cli import main
from datanas.core.errors import ConfigError
from datanas.deploy.int8_file import export_int8


@pytest.fixture(scope="module")
def run(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_config(tmp_path_factory.mktemp("int8"))
    config["train"] = config["train"] | {"channels": 16}
    return datanas.train("gdas", config, quiet=True).path


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


def test_what_it_says_is_what_the_file_does(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    before = logging.root.manager.disable
    found = export_int8(run, file, IMAGES)
    assert logging.root.manager.disable == before
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["output_0"], {"images": IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / 255})
    right = datanas.load(run).predict_proba(IMAGES).argmax(axis=1)
    assert found.images == 40
    assert found.agree == pytest.approx(float((scores.argmax(axis=1) == right).mean()))
    assert found.agree > 0.7
    assert found.bytes == file.stat().st_size < found.float_bytes
    assert "images get the same answer" in found.text()


def test_few_images_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="31 images are too few for 8 bits; give 32 at least"):
        export_int8(run, tmp_path / "net.onnx", IMAGES[:31])
    assert not list(tmp_path.iterdir())


def test_the_command_needs_images(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), str(tmp_path / "net.onnx"), "--to", "onnx", "--int8"]) == 2
    assert "--check images" in capsys.readouterr().err


def test_a_network_without_classes_is_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", train_x=x, train_y=np.arange(40) / 7, test_x=x[:6], test_y=np.arange(6) / 7)
    config = {
        "run": {"root": str(tmp_path), "name": "numbers"},
        "device": "cpu",
        "data": {"name": "npz", "root": str(tmp_path / "data.npz")},
        "task": {"name": "regression"},
        "train": {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 8, "auxiliary": False},
    }
    run = datanas.train("gdas", config, quiet=True).path
    with pytest.raises(ConfigError, match="task regression tells no likeliest class"):
        export_int8(run, tmp_path / "net.onnx", x)
