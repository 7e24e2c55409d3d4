"""Tiny-ImageNet in both of its forms, on made-up images and on the real ones where they are."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError
from datanas.core.settings import validate
from datanas.data.base import ImageData
from datanas.data.sets.tinyimagenet import TinyImageNet

WNIDS = ("n01443537", "n02056570")


def load(root: Path, **settings: Any) -> ImageData:
    return TinyImageNet(validate(TinyImageNet.Config, {"root": root, **settings}, "data")).load()


def photo(shade: int, size: int = 64) -> Image.Image:
    return Image.new("RGB", (size, size), (shade, shade, shade))


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Three training images a class, and three for validation of which two are of the second class."""
    root = tmp_path / "tiny-imagenet-200"
    for number, wnid in enumerate(WNIDS):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for place in range(3):
            photo(100 * number).save(root / "train" / wnid / "images" / f"{wnid}_{place}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for place, number in enumerate((1, 0, 1)):
        photo(100 * number).save(root / "val" / "images" / f"val_{place}.JPEG")
        lines.append(f"val_{place}.JPEG\t{WNIDS[number]}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def pack(path: Path, size: int = 64) -> Path:
    def encode(shade: int) -> bytes:
        stream = io.BytesIO()
        photo(shade, size).save(stream, "PNG")
        return stream.getvalue()

    files = [encode(shade) for shade in (0, 100, 0, 100)]
    content, ends = np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])
    labels = np.array([0, 1, 0, 1], np.uint8)
    arrays = {
        f"{split}_{name}": value
        for split in ("train", "val")
        for name, value in (("jpg", content), ("off", ends), ("y", labels))
    }
    np.savez(path, classes=np.array(["goldfish", "penguin"]), **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("inside", [False, True])
def test_the_folder_as_it_is_unpacked(unpacked: Path, inside: bool) -> None:
    data = load(unpacked if inside else unpacked.parent)
    assert data.classes == WNIDS
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [1, 0, 1]
    assert [round(float(image.float().mean())) for image in data.test.images] == [100, 0, 100]


@pytest.mark.parametrize("inside", [False, True])
def test_the_packed_form(tmp_path: Path, inside: bool) -> None:
    path = pack(tmp_path / "tinyimagenet20.npz")
    data = load(path if inside else tmp_path)
    assert data.classes == ("goldfish", "penguin")
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.train.images[1].float().mean() == 100


def test_a_balanced_beginning_may_be_taken(unpacked: Path) -> None:
    data = load(unpacked, train_images=4, test_images=2)
    assert torch.bincount(data.train.labels).tolist() == [2, 2]
    assert torch.bincount(data.test.labels).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("val_9.JPEG\tn01443537\t0\n", r"val_annotations\.txt line 4: no such file: .*val_9\.JPEG"),
        ("val_0.JPEG\tn99999999\t0\n", r"line 4: 'n99999999' is no class of"),
        ("val_0.JPEG\n", "line 4: '' is no class of"),
    ],
)
def test_a_wrong_annotation_is_refused_by_its_line(unpacked: Path, line: str, message: str) -> None:
    with (unpacked / "val" / "val_annotations.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError, match=message):
        load(unpacked)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train image 0 is 32x32; it must be 64x64"):
        load(pack(tmp_path / "small.npz", size=32))


def test_more_images_than_there_are_cannot_be_taken(unpacked: Path) -> None:
    with pytest.raises(DataError, match="train_images is 7 but there are only 6"):
        load(unpacked, train_images=7)


def test_too_few_images_for_every_class_are_refused(unpacked: Path) -> None:
    with pytest.raises(DataError, match=r"class .* has no training image"):
        load(unpacked, train_images=1)


def test_an_empty_place_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for .*tinyimagenet20\.npz.*val_annotations\.txt; set --data\.root"):
        load(tmp_path)


def test_the_real_ones(shared: Callable[[str], Path]) -> None:
    data = load(shared("tinyimagenet20.npz"), train_images=200, test_images=100)
    assert (len(data.classes), len(data.train), len(data.test)) == (20, 200, 100)
    assert torch.bincount(data.train.labels).tolist() == [10] * 20
