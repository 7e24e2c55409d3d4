"""Masks from a network's folder are those by which evaluation has counted its pixels, and are written as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import datanas
from datanas.core.errors import ConfigError, DataError
from datanas.data.types.masks import VOID
from datanas.deploy.export import export
from datanas.deploy.masks import MaskFolder, MaskPredictor, colour
from datanas.deploy.onnx_file import export_onnx
from datanas.engine.evaluation import evaluate, restore
from datanas.tasks.base import Task

SIZE = (20, 28)


def data_of(task: Task[Any]) -> Any:
    """What a task of images was given."""
    return vars(task)["data"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on images in which squares are brighter than what is behind them."""
    root = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for number in range(count):
            mask = np.zeros(SIZE, np.uint8)
            top, left = rng.integers(0, 10, 2)
            mask[top : top + 8, left : left + 9] = 1
            mask[0, 0] = VOID
            image = rng.integers(0, 60, (*SIZE, 3)) + 150 * (mask == 1)[..., None]
            for kind, each in (("images", image), ("masks", mask)):
                (root / part / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(each.astype(np.uint8)).save(root / part / kind / f"{number}.png")
    (root / "classes.txt").write_text("ground\nsquare\n")
    config: dict[str, Any] = {
        "run": {"root": str(root / "runs"), "name": "run"},
        "device": "cpu",
        "data": {"name": "mask_folder", "root": str(root), "longest": 24},
        "task": {"name": "segmentation", "crop": 16, "head_channels": 4, "stem": "plain", "test_flip": True},
        "train": {"channels": 4, "cells": 3, "epochs": 40, "batch_size": 6, "weights": {"lr": 0.2}},
    }
    return datanas.train("gdas", config, quiet=True).path


@pytest.fixture(params=["run", "export"])
def predictor(request: pytest.FixtureRequest, run: Path, tmp_path: Path) -> MaskPredictor:
    found = datanas.load(run if request.param == "run" else export(run, tmp_path / "exported"))
    assert isinstance(found, MaskPredictor)
    return found


def test_masks_are_those_of_evaluation(run: Path, predictor: MaskPredictor) -> None:
    _, task, _ = restore(run)
    images, masks = data_of(task).test.images, data_of(task).test.masks
    found = predictor.predict([image.permute(1, 2, 0).numpy() for image in images])
    right, whole = 0, 0
    for mask, truth in zip(found.masks, masks, strict=True):
        right += int(((torch.from_numpy(mask) == truth) & (truth != VOID)).sum())
        whole += int((truth != VOID).sum())
    assert right / whole == pytest.approx(evaluate(run).figures["pixel_accuracy"], abs=1e-6)
    assert {*np.unique(np.stack(found.masks))} == {0, 1}
    assert found.classes == ("ground", "square")


def test_a_mask_is_as_large_as_its_image_though_that_was_reduced(run: Path, predictor: MaskPredictor) -> None:
    _, task, _ = restore(run)
    files = [run.parent.parent / "test" / "images" / name for name in data_of(task).test.names]
    found = predictor.predict(files)
    small = predictor.predict([image.permute(1, 2, 0).numpy() for image in data_of(task).test.images])
    assert small.masks[0].shape == (17, 24)
    for mask, reduced in zip(found.masks, small.masks, strict=True):
        assert mask.shape == SIZE
        nearest = Image.fromarray(reduced).resize(SIZE[::-1], Image.Resampling.NEAREST)
        np.testing.assert_array_equal(mask, np.asarray(nearest))


def test_shares_are_those_of_the_pixels(predictor: MaskPredictor) -> None:
    found = predictor.predict(np.zeros((2, 16, 16, 3), np.uint8))
    (shares, _), (mask, _) = found.shares(), found.masks
    assert sum(shares.values()) == pytest.approx(1)
    assert shares.get("square", 0) == (mask == 1).mean()
    assert repr(found) == "<2 masks: image 0: 16x16, image 1: 16x16>"


def test_an_image_that_is_too_small_is_refused(predictor: MaskPredictor) -> None:
    with pytest.raises(DataError, match="image 0: is seen as 9x2, but the network needs 4 pixels each way"):
        predictor.predict(np.zeros((2, 9, 3), np.uint8))


def test_masks_are_written_with_numbers_and_colours(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path / "masks", ("a", "b"))
    assert not (tmp_path / "masks").exists()
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert [folder.add(name, mask).name for name in ("x/1.jpg", "y/1.png", "2.png")] == ["1.png", "1-2.png", "2.png"]
    with Image.open(tmp_path / "masks" / "1.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)
    assert (tmp_path / "masks" / "classes.txt").read_text() == "a\nb\n"
    with pytest.raises(ConfigError, match="exists and is not empty"):
        MaskFolder(tmp_path / "masks", ("a", "b"))


def test_the_colours_are_those_of_voc() -> None:
    assert [colour(number) for number in (0, 1, 2, 3, 8, 15, 20)] == [
        *((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (64, 0, 0), (192, 128, 128), (0, 64, 128)),
    ]
    assert len({colour(number) for number in range(256)}) == 256


def test_of_images_of_any_size_the_folder_is_used_and_no_file(run: Path, tmp_path: Path) -> None:
    export_onnx(run, tmp_path / "net.onnx")
    with pytest.raises(ConfigError, match="a file takes images of one size"):
        datanas.load(tmp_path / "net.onnx")
