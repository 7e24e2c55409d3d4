from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datanas.core.errors import DataError, StorageError
from datanas.core.settings import ComponentConfig
from datanas.data.base import Dataset, ImageData, ImageSet, check_images


def image_set(labels: list[int], dtype: torch.dtype = torch.uint8) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(len(labels), 3, 4, 5, generator=generator)
    if dtype == torch.uint8:
        images = images * 255
    return ImageSet(images.to(dtype), torch.tensor(labels, dtype=torch.int64))


def test_images_and_labels_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        ImageSet(torch.zeros(2, 1, 1, 1), torch.zeros(3, dtype=torch.int64))


def test_select_keeps_the_order_of_its_indices() -> None:
    part = image_set([0, 1, 2, 3]).select(torch.tensor([3, 1]))
    assert part.labels.tolist() == [3, 1]
    assert torch.equal(part.images, image_set([0, 1, 2, 3]).images[[3, 1]])


def test_a_balanced_prefix_passes_over_a_class_that_is_ahead() -> None:
    part = image_set([0, 0, 0, 1, 1, 2])
    assert part.balanced_prefix(3).labels.tolist() == [0, 1, 2]
    assert part.balanced_prefix(5).labels.tolist() == [0, 0, 1, 1, 2]
    assert torch.equal(part.balanced_prefix(3).images, part.images[[0, 3, 5]])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_mean_and_std_are_those_of_the_training_pixels(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.data.base._CHUNK_VALUES", 150)  # two images and a half
    train = image_set([0, 1, 0, 1, 0], dtype)
    data = ImageData(train, image_set([0, 1], dtype), ("a", "b"))
    pixels = train.images.double() / (255 if dtype == torch.uint8 else 1)
    torch.testing.assert_close(data.mean, pixels.mean((0, 2, 3)).float())
    torch.testing.assert_close(data.std, pixels.std((0, 2, 3), correction=0).float())
    assert data.image_shape == (3, 4, 5)


def test_the_std_of_a_constant_channel_is_one_grey_level() -> None:
    train = ImageSet(torch.full((2, 1, 3, 3), 0.3), torch.tensor([0, 1]))
    assert ImageData(train, train, ("a", "b")).std.tolist() == pytest.approx([1 / 255])


def with_pixel(value: float) -> ImageSet:
    part = image_set([0, 1, 0], torch.float32)
    part.images[2, 1, 0, 0] = value
    return part


GOOD = image_set([0, 1, 0])
FLOAT = image_set([0, 1, 0], torch.float32)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (GOOD, image_set([0, 1, 2]), r"^here: test image 2 has the label 2; labels must be in 0\.\.1$"),
        (image_set([0, -1, 7]), GOOD, r"^here: train image 1 has the label -1; labels must be in 0\.\.1$"),
        (image_set([0, 0]), GOOD, "^here: class 'bee' has no training image"),
        (with_pixel(float("nan")), FLOAT, "^here: train image 2 has NaN or infinite pixels"),
        (FLOAT, with_pixel(float("-inf")), "^here: test image 2 has NaN or infinite pixels"),
        (FLOAT, with_pixel(1.5), r"^here: test image 2 has pixels outside 0\.\.1"),
        (with_pixel(-0.1), FLOAT, r"^here: train image 2 has pixels outside 0\.\.1"),
        (GOOD, image_set([]), "^here: test holds no images"),
        (image_set([]), GOOD, "^here: train holds no images"),
        (image_set([0, 1], torch.float64), GOOD, "^here: train images must be uint8 or float32, got torch.float64"),
        (ImageSet(torch.zeros(2, 4, 5), torch.tensor([0, 1])), GOOD, "^here: train images must have the shape"),
        (ImageSet(GOOD.images, GOOD.labels.int()), GOOD, "^here: train labels must be int64"),
        (GOOD, ImageSet(GOOD.images[:, :1], GOOD.labels), r"images differ: \(3, 4, 5\) uint8 and \(1, 4, 5\) uint8"),
        (GOOD, FLOAT, r"images differ: \(3, 4, 5\) uint8 and \(3, 4, 5\) float32"),
    ],
)
def test_each_fault_is_named(train: ImageSet, test: ImageSet, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_images(train, test, ("ant", "bee"), "here")


def test_one_class_is_too_few() -> None:
    with pytest.raises(DataError, match="only one class"):
        check_images(image_set([0]), image_set([0]), ("ant",), "here")


def test_a_fault_beyond_the_first_chunk_has_its_own_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.data.base._CHUNK_VALUES", 60)
    with pytest.raises(DataError, match="train image 2 has NaN"):
        check_images(with_pixel(float("nan")), FLOAT, ("ant", "bee"), "here")


def test_sound_images_pass() -> None:
    check_images(GOOD, GOOD, ("ant", "bee"), "here")
    check_images(FLOAT, FLOAT, ("ant", "bee"), "here")


def test_images_and_labels_move_together() -> None:
    moved = GOOD.to("meta")
    assert moved.images.device.type == moved.labels.device.type == "meta"


def test_what_the_system_says_of_a_path_is_bad_data_whatever_the_data_set() -> None:
    class Settings(ComponentConfig):
        root: Path = Path("some") / "where"

    class Made(Dataset[ImageData]):
        Config = Settings

        def load(self) -> ImageData:
            raise PermissionError(13, "Permission denied", "deep/file.png")

    with pytest.raises(DataError, match=r"made deep/file\.png: Permission denied"):
        Made(Settings(name="made")).load()


def test_an_error_of_ours_passes_a_data_set_as_it_is() -> None:
    class Made(Dataset[ImageData]):
        Config = ComponentConfig

        def load(self) -> ImageData:
            raise StorageError("full")

    with pytest.raises(StorageError, match="full"):
        Made(ComponentConfig(name="made")).load()
