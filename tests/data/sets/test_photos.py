from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from datanas.core.errors import DataError
from datanas.data.base import ImageData
from datanas.data.sets.photos import PHOTOS, Photos

pytest.importorskip("skimage", reason="scikit-image (datanas[demo]) is not installed")


@pytest.fixture(scope="module")
def photos() -> ImageData:
    return Photos(Photos.Config()).load()


def test_there_are_ten_classes_of_400_and_100_patches_at_most(photos: ImageData) -> None:
    assert photos.classes == tuple(PHOTOS)
    assert photos.image_shape == (3, 32, 32)
    assert torch.bincount(photos.train.labels).tolist() == [400, 340] + [400] * 8
    assert torch.bincount(photos.test.labels).tolist() == [100] * 10


def test_photographs_are_those_of_the_packages(photos: ImageData) -> None:
    from skimage import data
    from sklearn.datasets import load_sample_image

    expected = {
        "astronaut": data.astronaut(),
        "immunohistochemistry": data.immunohistochemistry(),
        "stereo_motorcycle": data.stereo_motorcycle()[0],
        "china": load_sample_image("china.jpg"),
    }
    for name, photo in expected.items():
        first = photos.train.images[photos.train.labels == photos.classes.index(name)][0]
        assert np.array_equal(first.permute(1, 2, 0).numpy(), photo[:32, :32]), name


def test_no_pixel_is_in_both_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    column = np.arange(300) % 256
    photo = np.stack([np.broadcast_to(column, (64, 300)), np.broadcast_to(np.arange(300) // 256, (64, 300))] * 2, 2)
    monkeypatch.setattr("datanas.data.sets.photos.read_photo", lambda name: photo[:, :, :3].astype(np.uint8))
    data = Photos(Photos.Config()).load()
    columns = [part.images[:, 0].int() + 256 * part.images[:, 1].int() for part in (data.train, data.test)]
    assert columns[0].max() < 225 <= columns[1].min()


def test_fewer_patches_are_spread_over_the_whole_photograph() -> None:
    few = Photos(Photos.Config(per_class=4, test_per_class=2)).load()
    assert len(few.train) == 40
    assert len(few.test) == 20


def test_without_scikit_image_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DataError, match=r"install datanas\[demo\]"):
        Photos(Photos.Config()).load()


def test_a_photograph_that_is_not_shipped_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PHOTOS, "rocket", ("skimage", "data/absent.jpg"))
    with pytest.raises(DataError, match="rocket of skimage cannot be read"):
        Photos(Photos.Config()).load()
