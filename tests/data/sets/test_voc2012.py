"""VOC 2012 as it is unpacked, with and without the masks of SBD, and the pack of a part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas.core.errors import DataError
from datanas.core.settings import validate
from datanas.data.sets.voc2012 import Voc2012
from datanas.data.types.masks import VOID, SegmentationData


def save_mask(file: Path, row: list[int]) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array([row], np.uint8)).save(file)


def load(root: Path, **settings: Any) -> SegmentationData:
    return Voc2012(validate(Voc2012.Config, {"root": root, **settings}, "data")).load()


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """An image of each list; the mask of SBD differs from the official one."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, file in {"one": "train", "two": "val", "three": "extra"}.items():
        save_mask(root / "SegmentationClassAug" / f"{name}.png", [0, 8, 8])
        if file != "extra":
            save_mask(root / "SegmentationClass" / f"{name}.png", [0, 8, 255])
            (lists / f"{file}.txt").write_text(f"{name}\n")
        (root / "JPEGImages").mkdir(exist_ok=True)
        Image.new("RGB", (3, 1)).save(root / "JPEGImages" / f"{name}.jpg")
    (lists / "train_aug.txt").write_text("/JPEGImages/one.jpg /SegmentationClassAug/one.png\nthree\n")
    return tmp_path


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_as_it_is_unpacked(voc: Path, inside: str) -> None:
    data = load(voc / inside)
    assert data.train.names == ("one", "three")
    assert data.train.masks[0].tolist() == [[0, 8, 8]]
    assert data.test.names == ("two",)
    assert data.test.masks[0].tolist() == [[0, 8, VOID]]


def test_voc_without_the_masks_of_sbd(voc: Path) -> None:
    data = load(voc, augmented=False)
    assert data.train.names == ("one",)
    assert data.train.masks[0].tolist() == [[0, 8, VOID]]
    (voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()
    assert load(voc).train.names == ("one",)
    with pytest.raises(DataError, match=r"data\.augmented needs"):
        load(voc, augmented=True)


def test_a_voc_mask_that_is_missing_is_named(voc: Path) -> None:
    (voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / "three.png").unlink()
    with pytest.raises(DataError, match=r"train mask three is missing: .*three\.png"):
        load(voc)


def test_an_image_that_both_lists_name_is_refused(voc: Path) -> None:
    """SBD's own list of training images holds some of VOC's validation images."""
    lists = voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train_aug.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="both name two; what is tested must not be trained on"):
        load(voc)


def test_the_pack_of_voc(shared: Callable[[str], Path]) -> None:
    data = load(shared("voc2012_subset.npz"))
    assert (len(data.train), len(data.test), len(data.classes)) == (1000, 445, 21)
    assert max(max(size) for size in data.test.sizes) == 240
    dogs = sum(bool((mask == data.classes.index("dog")).any()) for mask in data.test.masks)
    assert dogs == 128


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"voc2012 .*nowhere"):
        load(tmp_path / "nowhere")
