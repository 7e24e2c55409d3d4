"""What every registered image data set keeps to. A new one is tested by existing: with its default settings, or with
those that SETTINGS makes for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datanas.config import ComponentConfig, validate
from datanas.data import datasets
from datanas.data.base import Dataset, ImageData, check_images
from datanas.errors import ConfigError

RANDOM = np.random.default_rng(0)


def cifar10_settings(root: Path) -> dict[str, Any]:
    (root / "cifar-10-batches-bin").mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        records = RANDOM.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        (root / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
    return {"root": root}


def folder_settings(root: Path) -> dict[str, Any]:
    from PIL import Image

    for name in ("ant", "bee", "cow"):
        (root / name).mkdir()
        for number in range(6):
            pixels = RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return {"root": root}


def npz_settings(root: Path) -> dict[str, Any]:
    np.savez(root / "data.npz", x=RANDOM.integers(0, 256, (30, 8, 8), dtype=np.uint8), y=np.arange(30) % 3)
    return {"root": root / "data.npz"}


SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "cifar10": cifar10_settings,
    "folder": folder_settings,
    "npz": npz_settings,
    "photos": lambda root: {"per_class": 20, "test_per_class": 5},
}


@pytest.fixture(scope="module", params=list(datasets))
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset[Any]:
    name = request.param
    entry = datasets[name]
    settings = SETTINGS[name](tmp_path_factory.mktemp(name)) if name in SETTINGS else {}
    try:
        config = validate(entry.Config, settings, "data")
    except ConfigError as error:
        pytest.skip(f"{name} needs settings that the test does not know: {error}")
    return entry(config)


@pytest.fixture(scope="module")
def data(dataset: Dataset[Any]) -> ImageData:
    loaded = dataset.load()
    if not isinstance(loaded, ImageData):
        pytest.skip(f"{dataset.config.name} holds {type(loaded).__name__}, not images")
    return loaded


def test_its_settings_are_a_component_of_its_name(dataset: Dataset[Any]) -> None:
    assert isinstance(dataset.config, ComponentConfig)
    assert type(dataset) is datasets[dataset.config.name]


def test_unknown_settings_are_refused(dataset: Dataset[Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.no_such_setting: unknown key"):
        validate(type(dataset).Config, dataset.config.model_dump() | {"no_such_setting": 1}, "data")


def test_its_settings_survive_being_written(dataset: Dataset[Any]) -> None:
    assert validate(type(dataset).Config, dataset.config.model_dump(mode="json"), "data") == dataset.config


def test_shapes_types_and_ranges(data: ImageData) -> None:
    check_images(data.train, data.test, data.classes, "contract")
    channels, height, width = data.image_shape
    assert data.train.images.shape == (len(data.train), channels, height, width)
    assert len(set(data.classes)) == len(data.classes)


def test_the_statistics_are_of_the_training_images(data: ImageData) -> None:
    assert data.mean.shape == data.std.shape == (data.image_shape[0],)
    assert data.mean.dtype == data.std.dtype == torch.float32
    assert (data.mean >= 0).all()
    assert (data.mean <= 1).all()
    assert (data.std > 0).all()


def test_loading_again_gives_the_same(dataset: Dataset[Any], data: ImageData) -> None:
    state = torch.get_rng_state()
    again = type(dataset)(dataset.config).load()
    assert torch.equal(torch.get_rng_state(), state)
    for first, second in ((data.train, again.train), (data.test, again.test)):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
    assert data.classes == again.classes
