"""Folders of images with masks of the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import validate
from datanas.data.sets.mask_folder import MaskFolder
from datanas.data.types.masks import VOID, SegmentationData


def write(file: Path, mask: np.ndarray, image: Path | None = None) -> None:
    """A mask, and where asked for an image of its size."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(file)
    if image is not None:
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(20 * (mask % 12)[..., None], 3, axis=2).astype(np.uint8)).save(image)


def load(root: Path, **settings: Any) -> SegmentationData:
    return MaskFolder(validate(MaskFolder.Config, {"root": root, **settings}, "data")).load()


MASK = np.array([[0, 1, 2], [1, 255, 0]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images for training and one for each of the other parts."""
    for part, names in {"train": "ab", "val": "c", "test": "d"}.items():
        for name in names:
            write(tmp_path / part / "masks" / f"{name}.png", MASK, tmp_path / part / "images" / f"{name}.bmp")
    (tmp_path / "classes.txt").write_text("sky\nsea\nland\n\n")
    return tmp_path


def test_masks_are_found_by_name(folder: Path) -> None:
    data = load(folder)
    assert data.classes == ("sky", "sea", "land")
    assert data.train.names == ("a.bmp", "b.bmp")
    assert data.validation is not None
    assert (data.validation.names, data.test.names) == (("c.bmp",), ("d.bmp",))
    assert data.train.masks[0].tolist() == MASK.tolist()
    assert data.train.images[0][0].tolist() == (20 * (MASK % 12)).tolist()


@pytest.mark.parametrize("part", ["val", "test"])
def test_one_part_beside_the_training_images_is_for_testing(folder: Path, part: str) -> None:
    (folder / part).rename(folder / "gone")
    data = load(folder)
    assert data.validation is None
    assert data.test.names == ("d.bmp" if part == "val" else "c.bmp",)


def test_classes_may_be_counted_and_more_values_be_void(folder: Path) -> None:
    (folder / "classes.txt").unlink()
    data = load(folder, classes=2, void=[2])
    assert data.classes == ("0", "1")
    assert data.train.masks[0].tolist() == [[0, 1, VOID], [1, VOID, 0]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "classes.txt").unlink(), "how many classes?"),
        (lambda root: (root / "classes.txt").write_text("a\nb\na\n"), "names 'a' twice"),
        (
            lambda root: (root / "classes.txt").write_text("a\nb\n"),
            r"train mask a\.png \(of image a\.bmp\) has the value 2",
        ),
        (lambda root: (root / "classes.txt").write_text("a\n"), "only one class"),
        (lambda root: (root / "train" / "masks" / "b.png").unlink(), r"image .*b\.bmp has no mask in"),
        (lambda root: write(root / "train" / "masks" / "b.bmp", MASK), r"b\.bmp has 2 masks"),
        (lambda root: write(root / "x.png", MASK, root / "train" / "images" / "a.png"), "two images of the name 'a'"),
        (lambda root: write(root / "train" / "masks" / "a.png", MASK[:1]), r"image a\.bmp is 3x2, its mask 3x1"),
        (lambda root: (root / "train" / "images" / "a.bmp").write_bytes(b"BM"), r"train image a\.bmp is broken"),
        (lambda root: (root / "train" / "masks").rename(root / "gone"), "no such folder: .*masks"),
        (
            lambda root: [(root / part).rename(root / f"more {part}s") for part in ("val", "test")],
            "neither test nor val",
        ),
        (lambda root: [file.unlink() for file in (root / "val" / "images").iterdir()], "images holds no images"),
    ],
)
def test_a_fault_is_named(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_names_and_number_of_classes_must_agree(folder: Path) -> None:
    with pytest.raises(DataError, match=r"names 3 classes, but data\.classes is 4"):
        load(folder, classes=4)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask_folder .*nowhere: no such folder"):
        load(tmp_path / "nowhere")


def test_masks_of_black_and_white_are_told_what_255_stands_for(folder: Path) -> None:
    for file in folder.rglob("masks/*.png"):
        write(file, np.array([[0, 255, 0], [255, 255, 0]]))
    with pytest.raises(
        DataError, match=r'50% of the pixels are 255, which stands for void: .*--data\.values "\[0, 255\]"'
    ):
        load(folder)
    (folder / "classes.txt").write_text("back\nfront\n")
    assert load(folder, values=[0, 255]).train.masks[0].tolist() == [[0, 1, 0], [1, 1, 0]]
    (folder / "classes.txt").unlink()
    assert load(folder, values=[0, 255]).classes == ("0", "1")


@pytest.mark.parametrize(("values", "message"), [([0, 0], "a value of its own"), ([0], "at least 2")])
def test_values_are_two_or_more_that_differ(folder: Path, values: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(folder, values=values)


def test_parts_may_be_called_otherwise(folder: Path) -> None:
    for part, name in {"train": "Training", "val": "Validation", "test": "test_set"}.items():
        (folder / part).rename(folder / name)
    assert {name: part.names for name, part in load(folder).parts().items()} == {
        "train": ("a.bmp", "b.bmp"),
        "validation": ("c.bmp",),
        "test": ("d.bmp",),
    }


def test_a_picture_in_place_of_a_mask_is_called_by_its_own_name(folder: Path) -> None:
    Image.new("RGB", (3, 2)).save(folder / "train" / "masks" / "a.png")
    with pytest.raises(DataError, match=r"train mask a\.png \(of image a\.bmp\) is a picture of the mode 'RGB'"):
        load(folder)


def test_masks_and_images_that_are_left_out_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "train" / "masks" / "z.png", MASK)
    write(folder / "train" / "images" / "deep" / "a.png", MASK)
    load(folder)
    assert "1 masks without an image" in caplog.text
    assert "1 in deeper folders" in caplog.text
