"""What a trained network says of an image is what evaluation has found, whatever way the image goes in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import datanas
from datanas.core.errors import CheckpointError, ConfigError, DataError
from datanas.core.settings import merge
from datanas.data.augment import normalise
from datanas.data.decode.images import decode
from datanas.data.decode.open_image import PixelForm
from datanas.deploy.export import export
from datanas.deploy.pictures import find_pictures
from datanas.engine.evaluation import evaluate, restore
from datanas.tasks.base import Task

CLASSES = ("bright", "dark")
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "train": {"channels": 2, "cells": 3, "epochs": 12, "batch_size": 6, "auxiliary": True, "validate_every": 12},
    "task": {"train_augment": {"cutout": 2, "crop_padding": 1}},
}


def loaded(task: Task[Any]) -> Any:
    """What a task of images was given."""
    return vars(task)["data"]


class Case(NamedTuple):
    """A training, the images that it was tested on as people have them, and what evaluation finds of each."""

    run: Path
    images: list[NDArray[np.uint8]]
    files: list[Path]
    expected: NDArray[np.float32]


def pixels(rng: np.random.Generator, label: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return (rng.integers(0, 100, (*size, 3)) + (150, 20)[label]).astype(np.uint8)


def write_folder(root: Path, size: tuple[int, int], parts: tuple[str, str] = ("train", "test")) -> None:
    rng = np.random.default_rng(1)
    for part, count in zip(parts, (6, 4), strict=True):
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pixels(rng, label, size)).save(root / part / name / f"{number}.png")


def write_npz(path: Path, size: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(2)
    classes = 10 if size == 32 else 2
    labels = {"train": np.arange(20) % classes, "test": np.arange(10) % classes}
    images = {
        part: np.stack([pixels(rng, int(label) % 2, (size, size)) for label in each]) for part, each in labels.items()
    }
    arrays: dict[str, Any] = {
        f"{part}_{kind}": found[part] for part in labels for kind, found in (("x", images), ("y", labels))
    }
    np.savez(path, **arrays)
    return [*images["test"]]


def data_of(kind: str, root: Path) -> tuple[dict[str, Any], list[NDArray[np.uint8]], list[Path]]:
    """Settings of a data set, its images to test on, and their files."""
    if kind in ("npz", "cifar10"):
        images = write_npz(root / "data.npz", 32 if kind == "cifar10" else 10)
        files = [root / f"{number}.png" for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).save(file)
        return {"name": kind, "root": str(root / "data.npz")}, images, files
    write_folder(root / "data", (15, 12), ("train", "val"))
    files = sorted((root / "data" / "val").rglob("*.png"))
    settings = {"resize": 8} if kind == "folder" else {"size": 8, "resize": 11, "mean": [0.4] * 3, "std": [0.3] * 3}
    return {"name": kind, "root": str(root / "data"), **settings}, [np.array(Image.open(file)) for file in files], files


@pytest.fixture(scope="module", params=["folder", "npz", "cifar10", "image_files"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp(request.param)
    data, images, files = data_of(request.param, root)
    run = datanas.train("gdas", merge(SETTINGS, {"data": data, "run": {"root": str(root)}}), quiet=True).path
    return Case(run, images, files, expected(run))


def expected(run: Path) -> NDArray[np.float32]:
    """The probabilities of the images to test on, in their order, from the task's own batches."""
    network, task, _ = restore(run)
    seen, _ = loaded(task).test.begin(torch.arange(len(loaded(task).test)))()
    with torch.inference_mode():
        logits = network.eval()(normalise(seen, loaded(task).mean, loaded(task).std))
    found: NDArray[np.float32] = logits.softmax(dim=1).numpy()
    return found


WAYS: dict[str, Callable[[Case], Any]] = {
    "paths": lambda case: case.files,
    "texts": lambda case: [str(file) for file in case.files],
    "pillow": lambda case: [Image.fromarray(image) for image in case.images],
    "undecoded pillow": lambda case: [Image.open(file) for file in case.files],
    "arrays": lambda case: case.images,
    "a batch": lambda case: np.stack(case.images),
    "a batch, channels first": lambda case: np.stack(case.images).transpose(0, 3, 1, 2),
    "floating": lambda case: [image / 255 for image in case.images],
    "a floating batch": lambda case: np.stack(case.images).astype(np.float32) / np.float32(255),
    "tensors": lambda case: [torch.from_numpy(image).permute(2, 0, 1) for image in case.images],
    "a tensor": lambda case: torch.from_numpy(np.stack(case.images)).permute(0, 3, 1, 2) / 255,
    "long integers": lambda case: np.stack(case.images).astype(np.int64),
    "with alpha": lambda case: [np.dstack([image, np.full(image.shape[:2], 9, np.uint8)]) for image in case.images],
}


@pytest.mark.parametrize("way", WAYS)
def test_predictions_are_those_of_evaluation(case: Case, way: str) -> None:
    found = datanas.load(case.run).predict(WAYS[way](case))
    np.testing.assert_allclose(found.probabilities, case.expected, atol=1e-6)
    assert np.ptp(case.expected, axis=0).max() > 1e-4  # otherwise any order of images would do


def test_their_share_of_right_ones_is_the_accuracy_of_evaluation(case: Case) -> None:
    _, task, _ = restore(case.run)
    right = datanas.load(case.run).predict(case.files).indices == loaded(task).test.labels.numpy()
    assert right.mean() == evaluate(case.run).score


def test_an_array_of_one_image_is_one_image(case: Case) -> None:
    found = datanas.load(case.run).predict(case.images[3])
    np.testing.assert_allclose(found.probabilities, case.expected[3:4], atol=1e-6)


def test_batches_do_not_matter(case: Case) -> None:
    predictor = datanas.load(case.run)
    np.testing.assert_allclose(predictor.predict_proba(case.files, batch_size=3), case.expected, atol=1e-6)


def test_no_data_are_needed(case: Case, tmp_path: Path) -> None:
    folder = export(case.run, tmp_path / "exported")
    run = tmp_path / "run"
    shutil.copytree(case.run, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(case.run.parent), str(tmp_path / "gone")))
    for path in (run, folder):
        np.testing.assert_array_equal(datanas.load(path).predict_proba(case.images), case.expected)


@pytest.fixture(scope="module")
def folder_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A training on a folder of colour images, for what does not depend on the data."""
    root = tmp_path_factory.mktemp("one")
    data, images, files = data_of("folder", root)
    run = datanas.train("gdas", merge(SETTINGS, {"data": data, "run": {"root": str(root)}}), quiet=True).path
    return Case(run, images, files, expected(run))


def test_the_run_of_a_fit_is_its_export(folder_case: Case, tmp_path: Path) -> None:
    export(folder_case.run, tmp_path / "export")
    assert (
        datanas.load(tmp_path).predict(folder_case.files).labels
        == datanas.load(folder_case.run).predict(folder_case.files).labels
    )


def test_a_result_says_names_classes_and_probabilities(folder_case: Case) -> None:
    found = datanas.load(folder_case.run).predict(folder_case.files[:2])
    assert found.names == tuple(map(str, folder_case.files[:2]))
    assert found.classes == CLASSES
    assert found.labels == tuple(CLASSES[index] for index in found.indices)
    (best, other), _ = found.top(5)
    assert best[0] == found.labels[0]
    assert best[1] + other[1] == pytest.approx(1, abs=1e-6)
    assert best[1] >= other[1]
    assert len(found) == 2
    assert repr(found).startswith(f"<2 predictions: {folder_case.files[0]}: {found.labels[0]} 0.")


def test_a_folder_is_read_to_its_depths_without_what_is_hidden(folder_case: Case, tmp_path: Path) -> None:
    for name in ("b/c/1.png", "a.png", ".hidden/2.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder_case.files[0], tmp_path / name)
    found = datanas.load(folder_case.run).predict(tmp_path)
    assert found.names == (str(tmp_path / "a.png"), str(tmp_path / "b/c/1.png"))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "parts.npz"])
def test_files_of_arrays(folder_case: Case, tmp_path: Path, name: str) -> None:
    batch = np.stack(folder_case.images)
    file = tmp_path / name
    if name.endswith(".npy"):
        np.save(file, batch)
    else:
        arrays: dict[str, Any] = {"x": batch} if name == "x.npz" else {"train_x": batch[:1], "test_x": batch}
        np.savez(file, **arrays)
    found = datanas.load(folder_case.run).predict(file)
    assert found.names[1] == f"{file}[1]"
    np.testing.assert_allclose(found.probabilities, folder_case.expected, atol=1e-6)


def test_grey_images_go_into_a_network_of_colour_ones(folder_case: Case) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    predictor = datanas.load(folder_case.run)
    colour = predictor.predict_proba(np.dstack([grey] * 3))
    for image in (grey, grey[None], grey[None, :, :, None], Image.fromarray(grey), torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(predictor.predict_proba(image), colour)


def test_tensors_are_taken_in_the_shapes_that_a_fit_takes(folder_case: Case, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    found = expected(run := trained_on(x, tmp_path))
    grey = datanas.load(run)
    np.testing.assert_allclose(grey.predict_proba(torch.from_numpy(x)), found, atol=1e-6)
    np.testing.assert_allclose(grey.predict_proba(torch.from_numpy(x[:3])), found[:3], atol=1e-6)
    assert len(grey.predict_proba([torch.zeros(3, 8, 8)])) == 1  # in a list each is an image
    last = torch.from_numpy(np.stack(folder_case.images))
    np.testing.assert_allclose(datanas.load(folder_case.run).predict_proba(last), folder_case.expected, atol=1e-6)


def test_other_sizes_are_told_once_where_the_data_set_scaled_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, images, _ = data_of("npz", tmp_path)
    run = datanas.train("gdas", merge(SETTINGS, {"data": data, "run": {"root": str(tmp_path)}}), quiet=True).path
    caplog.clear()
    predictor = datanas.load(run)
    predictor.predict(images)
    assert caplog.messages == []
    wide = np.zeros((2, 20, 30, 3), np.uint8)
    predictor.predict([*wide, images[0]], batch_size=1)
    (line,) = caplog.messages
    assert line.startswith("2 of 3 images are not 10x10, the size that the network was trained on, such as image 0")


def test_the_shorter_side_is_scaled_and_the_centre_taken(folder_case: Case, tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 255, (21, 34, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    seen, _ = decode([tmp_path / "wide.png"], "test", form=PixelForm(), resize=8, skip_broken=False)
    predictor = datanas.load(folder_case.run)
    np.testing.assert_array_equal(predictor.predict_proba(wide), predictor.predict_proba(seen))


def test_16_bits_take_the_white_of_the_training_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4096, (12, 8, 8)).astype(np.uint16), np.arange(12) % 2
    np.savez(tmp_path / "data.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    data = {"name": "npz", "root": str(tmp_path / "data.npz")}
    run = datanas.train("gdas", merge(SETTINGS, {"data": data, "run": {"root": str(tmp_path)}}), quiet=True).path
    np.testing.assert_allclose(datanas.load(run).predict_proba(x), expected(run), atol=1e-6)
    Image.fromarray(x[0]).save(tmp_path / "deep.png")
    np.testing.assert_allclose(datanas.load(run).predict_proba(tmp_path / "deep.png"), expected(run)[:1], atol=1e-6)


def test_floating_pixels_are_rounded_where_the_network_was_trained_on_bytes(folder_case: Case) -> None:
    predictor = datanas.load(folder_case.run)
    found = predictor.predict_proba(np.stack([np.full((8, 8, 3), value) for value in (100.6 / 255, 101.4 / 255)]))
    np.testing.assert_array_equal(found, predictor.predict_proba(np.full((2, 8, 8, 3), 101, np.uint8)))


def test_floating_pixels_lose_no_digit_where_the_network_was_trained_on_such(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((12, 8, 8, 3)), np.arange(12) % 2
    np.savez(tmp_path / "data.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    data = {"name": "npz", "root": str(tmp_path / "data.npz")}
    run = datanas.train("gdas", merge(SETTINGS, {"data": data, "run": {"root": str(tmp_path)}}), quiet=True).path
    np.testing.assert_allclose(datanas.load(run).predict_proba(x), expected(run), atol=1e-7)
    assert datanas.load(run).predict_proba(np.zeros((5, 9, 30, 3))).shape == (5, 2)


def trained_on(x: NDArray[Any], tmp_path: Path, white: float | None = None) -> Path:
    y = np.arange(len(x)) % 2
    np.savez(tmp_path / "data.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    data = {"name": "npz", "root": str(tmp_path / "data.npz"), "white_level": white}
    settings = {"data": data, "run": {"root": str(tmp_path)}}
    return datanas.train("gdas", merge(SETTINGS, merge(settings, {"train": {"epochs": 1}})), quiet=True).path


ARRAYS: dict[str, NDArray[Any]] = {
    "floating beyond 0..1": np.random.default_rng(0).normal(size=(12, 8, 8, 3)) * (1, 10, 1000),
    "whole below 0": np.random.default_rng(1).integers(-1000, 3000, (12, 8, 8)).astype(np.int16),
    "six channels of bytes": np.random.default_rng(2).integers(0, 256, (12, 8, 8, 6)).astype(np.uint8),
    "five channels of 16 bits": np.random.default_rng(3).integers(0, 9000, (12, 8, 8, 5)).astype(np.uint16),
    "two floating channels": np.random.default_rng(4).random((12, 8, 8, 2)),
    "five channels of bytes up to 100": np.random.default_rng(5).integers(0, 101, (12, 8, 8, 5)).astype(np.uint8),
}
WHITES = {"five channels of bytes up to 100": 100.0}


@pytest.mark.parametrize("kind", ARRAYS)
def test_any_numbers_in_any_channels_are_prepared_as_in_training(kind: str, tmp_path: Path) -> None:
    x = ARRAYS[kind]
    predictor = datanas.load(run := trained_on(x, tmp_path, WHITES.get(kind)))
    found = expected(run)
    assert np.ptp(found, axis=0).max() > 1e-5
    np.testing.assert_allclose(predictor.predict_proba(x), found, atol=1e-6)
    if x.ndim == 4:
        np.testing.assert_allclose(predictor.predict_proba([*np.moveaxis(x, 3, 1)]), found, atol=1e-6)
    np.save(tmp_path / "some.npy", x[:3])
    if kind in ("floating beyond 0..1", "whole below 0", "five channels of 16 bits"):
        beyond = np.where(x == x.max(), np.iinfo(x.dtype).max if x.dtype.kind in "iu" else 1e6, x)
        np.testing.assert_allclose(predictor.predict_proba(beyond.astype(x.dtype)), found, atol=1e-6)
    np.testing.assert_allclose(predictor.predict_proba(tmp_path / "some.npy"), found[:3], atol=1e-6)
    larger = x.repeat(2, axis=1).repeat(2, axis=2)
    assert predictor.predict_proba(larger).shape == (12, 2)
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match=r"an image file, but the network was trained on arrays of numbers"):
        predictor.predict(tmp_path / "one.png")
    with pytest.raises(DataError, match=r"channels, but the network was trained on"):
        predictor.predict(np.zeros((8, 8, 4 if x.shape[3:] != (4,) else 3), x.dtype))


def test_floating_numbers_up_to_1_are_told_where_255_is_white(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.float32)
    predictor = datanas.load(trained_on(x, tmp_path))
    caplog.clear()
    predictor.predict(x)
    assert caplog.messages == []
    predictor.predict(x / 255)
    assert caplog.messages[0].startswith(
        "no floating pixel is above 1, but the network was trained on floating numbers"
    )


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ([], "no images were given"),
    "an object": (3, "int is nothing to predict from"),
    "a text": ("a dog sees a cat", "no such file or folder"),
    "one axis": (np.zeros(5, np.uint8), r"must have the shape \(h, w\)"),
    "five channels": (np.zeros((2, 8, 8, 5), np.uint8), "with 1 to 4 channels"),
    "a tensor with its channels last": (torch.zeros(8, 8, 3), r"the shape \(c, h, w\)"),
    "an empty batch": (np.zeros((0, 8, 8, 3), np.uint8), "holds no images"),
    "NaN": (np.full((8, 8, 3), np.nan), "NaN or infinite"),
    "normalised": (np.full((8, 8, 3), -1.5), "it is normalised here"),
    "0..255 in floats": (np.full((8, 8, 3), 200.0), r"of 200 to 200, which must lie in 0\.\.1"),
    "16 bits": (np.full((8, 8, 3), 300, np.uint16), "trained on 8 bits; give uint8, or say what is white"),
    "truths": (np.zeros((8, 8), bool), "must be uint8"),
    "below 0": (np.full((8, 8), -1), "pixels below 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused(folder_case: Case, name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        datanas.load(folder_case.run).predict(given)


def test_broken_images_are_named_or_skipped(
    folder_case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "b.png").write_bytes(folder_case.files[0].read_bytes()[:80])
    (tmp_path / "c.jpg").write_text("no image")
    predictor = datanas.load(folder_case.run)
    with pytest.raises(DataError, match=r"none of 2 images can be read"):
        predictor.predict(tmp_path, skip_broken=True)
    shutil.copy(folder_case.files[0], tmp_path / "a.png")
    with pytest.raises(DataError, match=r"b\.png: .*; --skip-broken leaves such images out"):
        predictor.predict(tmp_path)
    found = predictor.predict(tmp_path, skip_broken=True, batch_size=1)
    assert found.names == (str(tmp_path / "a.png"),)
    assert f"skipped 2 broken of 3 images: {tmp_path / 'b.png'}, {tmp_path / 'c.jpg'}" in caplog.messages


def test_a_network_is_no_image(folder_case: Case) -> None:
    with pytest.raises(DataError, match=r"network\.safetensors: not an image; images, folders of images"):
        datanas.load(folder_case.run).predict(folder_case.run / "network.safetensors")


def test_pictures_have_names() -> None:
    grey = np.zeros((2, 8, 8), np.uint8)
    assert [each.name for each in find_pictures([grey, grey[0]], 3)] == ["image 0", "image 1", "image 2"]


def test_a_colour_image_with_its_channels_first_is_one_image() -> None:
    assert len(find_pictures(np.zeros((3, 8, 9), np.uint8), 3)) == 1
    assert len(find_pictures(np.zeros((3, 8, 9), np.uint8), 1)) == 3


def forget_use(run: Path, target: Path) -> Path:
    """A run as earlier versions have left it."""
    shutil.copytree(run, target)
    record = json.loads((target / "data.json").read_text())
    del record["preprocessing"], record["input"]
    (target / "data.json").write_text(json.dumps(record))
    return target


def test_a_run_of_an_earlier_version_asks_its_data(folder_case: Case, tmp_path: Path) -> None:
    run = forget_use(folder_case.run, tmp_path / "run")
    np.testing.assert_array_equal(datanas.load(run).predict_proba(folder_case.files), folder_case.expected)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(folder_case.run.parent / "data"), str(tmp_path / "gone")))
    with pytest.raises(CheckpointError, match=r"by an earlier version.*datanas export .* FOLDER --data\.root PATH"):
        datanas.load(run)


def test_an_export_of_an_earlier_version_says_enough(folder_case: Case, tmp_path: Path) -> None:
    folder = export(folder_case.run, tmp_path / "exported")
    raw = json.loads((folder / "config.json").read_text())
    for name in ("preprocessing", "input", "outputs"):
        del raw[name]
    (folder / "config.json").write_text(json.dumps(raw))
    np.testing.assert_array_equal(datanas.load(folder).predict_proba(folder_case.files), folder_case.expected)
    assert datanas.load(folder).predict(folder_case.files).classes == CLASSES


def test_an_untrained_run_is_refused(make_config: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    searched = datanas.search(make_config(tmp_path), quiet=True).path
    with pytest.raises(CheckpointError, match=rf"train its cell: datanas train {searched}"):
        datanas.load(searched)


def test_what_holds_no_network_is_refused(folder_case: Case, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither the run folder of a training nor"):
        datanas.load(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        datanas.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is a file; a folder is needed"):
        datanas.load(folder_case.run / "network.safetensors")
    with pytest.raises(ConfigError, match="device: 'nonsense'"):
        datanas.load(folder_case.run, "nonsense")


def _without(document: dict[str, Any], path: str) -> None:
    *way, last = path.split(".")
    for name in way:
        document = document[name]
    del document[last]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["input", "pretrained_cfg.input_size"], "exported by an earlier version"),
        (["input", "pretrained_cfg.crop_pct"], "exported by an earlier version"),
        (["preprocessing.mean"], "preprocessing says no mean"),
        (["datanas.task.name"], "datanas.task says no name"),
    ],
)
def test_an_export_that_lacks_an_entry_says_so(
    folder_case: Case, tmp_path: Path, missing: list[str], message: str
) -> None:
    folder = export(folder_case.run, tmp_path / "exported")
    document = json.loads((folder / "config.json").read_text())
    for path in missing:
        _without(document, path)
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=message):
        datanas.load(folder)
