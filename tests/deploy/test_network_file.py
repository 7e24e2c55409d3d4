"""A network in one file predicts as the run that it was made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import datanas
from datanas.cli import main
from datanas.core.errors import CheckpointError, ConfigError

Arrays = Mapping[str, Any]
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def train_on(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run of a small training on arrays."""

    def train(arrays: Arrays, **task: Any) -> Path:
        folder = tmp_path_factory.mktemp("run")
        np.savez(folder / "data.npz", **arrays)
        config = {
            "run": {"root": str(folder), "name": "run"},
            "device": "cpu",
            "data": {"name": "npz", "root": str(folder / "data.npz")},
            "task": task,
            "train": {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 8},
        }
        return datanas.train("gdas", config, quiet=True).path

    return train


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return RANDOM.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(train_on: Callable[..., Path], pictures: np.ndarray) -> Path:
    arrays = {"x": pictures, "y": np.arange(40) % 3, "classes": np.array(["ant", "bee", "cow"])}
    return train_on(arrays, train_augment={"cutout": 0})


@pytest.fixture(scope="module")
def file(run: Path) -> Path:
    found = run.parent / "net.onnx"
    assert main(["export", str(run), str(found)]) == 0
    return found


def test_it_predicts_as_its_run(file: Path, run: Path, pictures: np.ndarray) -> None:
    """Whatever comes: arrays, tensors, a picture, and one alone."""
    ours, its = datanas.load(run), datanas.load(file)
    for given in (pictures, torch.from_numpy(pictures[:5]).permute(0, 3, 1, 2), Image.fromarray(pictures[0])):
        np.testing.assert_allclose(its.predict_proba(given), ours.predict_proba(given), atol=1e-5)
    assert its.predict(pictures).labels == ours.predict(pictures).labels
    assert its.output_names == ("ant", "bee", "cow")
    assert repr(its) == f"<ClassPredictor of {file}: classification>"


def test_on_the_command_line(
    file: Path, run: Path, pictures: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pictures[3]).save(tmp_path / "one.png")
    said = []
    for path in (run, file):
        assert main(["predict", str(path), str(tmp_path / "one.png"), "--top", "2"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


NUMBERS = {"x": RANDOM.normal(3, 40, (40, 16, 16, 5)), "y": np.arange(40) % 3}


@pytest.mark.parametrize(
    ("task", "arrays"),
    [
        ("multilabel", {"y": RANDOM.integers(0, 2, (40, 3))}),
        ("regression", {"y": np.arange(40) / 7}),
        ("clustering", {"y": np.arange(40) % 3}),
        ("classification", NUMBERS),
    ],
)
def test_networks_of_other_tasks(
    train_on: Callable[..., Path], pictures: np.ndarray, tmp_path: Path, task: str, arrays: Arrays
) -> None:
    """Also of numbers that are no pixels, which the file takes as they are."""
    arrays = {"x": pictures, **arrays}
    augment = {} if task == "clustering" else {"train_augment": {"cutout": 0}}
    run = train_on(arrays, name=task, **augment)
    file = tmp_path / "net.onnx"
    assert main(["export", str(run), str(file)]) == 0
    ours, its = datanas.load(run), datanas.load(file)
    assert type(ours) is type(its)
    found, expected = its.predict(arrays["x"]), ours.predict(arrays["x"])
    name = "values" if task == "regression" else "probabilities"
    np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4, rtol=1e-4)


def test_a_file_of_8_bits(run: Path, pictures: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "seen.npy", pictures)
    settings = ["--to", "onnx", "--int8", "--check", str(tmp_path / "seen.npy")]
    assert main(["export", str(run), str(tmp_path / "net.onnx"), *settings]) == 0
    ours, its = datanas.load(run), datanas.load(tmp_path / "net.onnx")
    np.testing.assert_allclose(its.predict_proba(pictures), ours.predict_proba(pictures), atol=0.2)


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"nothing", "cannot be read as a network")])
def test_what_is_no_network(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "net.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        datanas.load(file)


def test_a_file_of_torch_is_not_read(tmp_path: Path) -> None:
    """Whatever is in it: reading could run it."""
    (tmp_path / "net.pt2").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"net\.pt2: a file of torch\.export is read by torch alone"):
        datanas.load(tmp_path / "net.pt2")


def test_a_file_is_not_exported_again(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("other.onnx", "other.pt2"):
        assert main(["export", str(file), str(tmp_path / name)]) == 2
        assert "is a file already; export the run that it was made of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_may_be_called_as_a_file(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "mine.onnx")
    assert datanas.load(tmp_path / "mine.onnx").output_names == ("ant", "bee", "cow")


def test_a_file_that_does_not_say_how_its_input_is_prepared(file: Path, tmp_path: Path) -> None:
    model, file = onnx.load(file), tmp_path / "net.onnx"
    kept = [each for each in model.metadata_props if each.key != "datanas"]
    said = json.loads(next(each.value for each in model.metadata_props if each.key == "datanas"))
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, file)
    with pytest.raises(CheckpointError, match="does not say how its input is prepared"):
        datanas.load(file)
    entry = model.metadata_props.add()
    for wrong, message in (({"num_classes": "many"}, "num_classes"), ({"task": {}}, "None")):
        entry.key, entry.value = "datanas", json.dumps({**said, **wrong})
        onnx.save(model, file)
        with pytest.raises(CheckpointError, match=message):
            datanas.load(file)


def test_without_onnxruntime_the_way_out_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"needs onnxruntime: pip install 'datanas\[export\]'"):
        datanas.load(file)
