"""An ONNX file computes what the network says of images in 0..1, and nothing is written where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import datanas
from datanas.core.errors import CheckpointError, ConfigError
from datanas.deploy import onnx_file
from datanas.deploy.onnx_file import export_onnx


@pytest.fixture(scope="module")
def run(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datanas.train("gdas", make_config(tmp_path_factory.mktemp("onnx")), quiet=True).path


def test_it_gives_the_probabilities_of_predictions(run: Path, tmp_path: Path, tiny_images: Path) -> None:
    file = tmp_path / "net.onnx"
    assert export_onnx(run, file, tiny_images) <= 1e-5
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    pixels = np.load(tiny_images)["test_x"]
    for count in (1, 2, 12):
        images = pixels[:count].transpose(0, 3, 1, 2).astype(np.float32) / 255
        (scores,) = session.run(["output_0"], {"images": images})
        found = torch.from_numpy(scores).softmax(dim=1).numpy()
        np.testing.assert_allclose(found, datanas.load(run).predict_proba(pixels[:count]), atol=1e-5)
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props}
    assert (metadata["classes"], metadata["task"]) == (["0", "1", "2"], "classification")


def test_a_file_in_use_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("mine")
    with pytest.raises(ConfigError, match=r"net\.onnx: exists; choose another file"):
        export_onnx(run, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "mine"


def test_another_result_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = onnx_file._recorded
    monkeypatch.setattr(
        onnx_file, "_recorded", lambda network, images: record(torch.nn.Sequential(network, Moved()), images)
    )
    with pytest.raises(CheckpointError, match="the exported network computes something else"):
        export_onnx(run, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


class Moved(torch.nn.Module):
    """A network's outputs, a little off."""

    def forward(self, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return [each * 1.001 for each in outputs]


def test_a_missing_package_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed; pip install 'datanas\[export\]'"):
        export_onnx(run, tmp_path / "net.onnx")


def test_a_network_of_several_outputs(tmp_path: Path, tiny_images: Path) -> None:
    config = {
        "run": {"root": str(tmp_path), "name": "run"},
        "device": "cpu",
        "data": {"name": "npz", "root": str(tiny_images)},
        "task": {"name": "clustering"},
        "train": {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 4},
    }
    run = datanas.train("gdas", config, quiet=True).path
    assert export_onnx(run, tmp_path / "net.onnx") <= 1e-4
    names = [each.name for each in onnx.load(tmp_path / "net.onnx").graph.output]
    assert names == ["output_0", "output_1"]


def test_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "text" / f"{split}.txt").write_text("a dog sees a cat\nthe cat sees the dog\n" * 10)
    config = {
        "run": {"root": str(tmp_path), "name": "words"},
        "device": "cpu",
        "data": {"name": "text", "root": str(tmp_path / "text")},
        "task": {"name": "language", "sequence": 4},
        "train": {"channels": 4, "cells": 1, "epochs": 1, "batch_size": 4},
    }
    run = datanas.train("darts_v2_rnn", config, quiet=True).path
    with pytest.raises(ConfigError, match="task language: only networks of images"):
        export_onnx(run, tmp_path / "net.onnx")


def test_numbers_that_are_no_pixels_are_taken_as_they_are(
    make_config: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(12, 8, 8, 5)) * (1, 10, 100, 1, 1) - 3
    y = np.arange(12) % 2
    np.savez(tmp_path / "data.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    config = make_config(tmp_path) | {"data": {"name": "npz", "root": str(tmp_path / "data.npz")}}
    run = datanas.train("gdas", config, quiet=True).path
    export_onnx(run, tmp_path / "net.onnx", x)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["output_0"], {"images": x.transpose(0, 3, 1, 2).astype(np.float32)})
    found = torch.from_numpy(scores).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, datanas.load(run).predict_proba(x), atol=1e-5)
    x[:, 2:5, 2:5] *= 50  # beyond all that was learned from
    (scores,) = session.run(["output_0"], {"images": x.transpose(0, 3, 1, 2).astype(np.float32)})
    found = torch.from_numpy(scores).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, datanas.load(run).predict_proba(x), atol=1e-5)
