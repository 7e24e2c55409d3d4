"""Omniglot as one packed file and as the original folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.base import ImageSet
from datanas.data.sets.omniglot import Omniglot, rotated
from datanas.data.types.class_splits import ClassSet

Shared = Callable[[str], Path]


def load(root: Path, **settings: Any) -> Any:
    return Omniglot(Omniglot.Config(root=root, **settings)).load()


def pack(root: Path, **arrays: Any) -> Path:
    """Two alphabets of two characters and three drawings each, one for either part."""
    images = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((28, 28), np.uint8)
    sound: dict[str, Any] = {}
    for split, alphabet in {"train": "Greek", "test": "Latin"}.items():
        sound[f"{split}_x"] = images[:6]
        sound[f"{split}_y"] = np.arange(6, dtype=np.uint16) // 3
        sound[f"{split}_alphabet"] = np.zeros(2, np.uint8)
        sound[f"{split}_alphabets"] = np.array([alphabet])
    np.savez(root / "omniglot_small.npz", **{**sound, **arrays})
    return root


def test_the_pack_has_the_published_characters(shared: Shared) -> None:
    data = load(shared("omniglot_small.npz").parent)
    assert (len(data.train.classes), len(data.test.classes), data.validation) == (136, 106, None)
    assert torch.bincount(data.train.images.labels).tolist() == [20] * 136
    assert data.train.classes[0] == "Balinese/01"
    assert data.train.classes[-1] == "Latin/26"
    assert data.image_shape == (1, 28, 28)
    assert data.mean.item() < 0.2


def test_a_pack_is_found_in_its_folder_or_given_itself(tmp_path: Path) -> None:
    data = load(pack(tmp_path))
    assert data.train.classes == ("Greek/01", "Greek/02")
    assert data.test.classes == ("Latin/01", "Latin/02")
    assert torch.equal(load(tmp_path / "omniglot_small.npz").train.images.images, data.train.images.images)


def test_training_characters_are_turned_where_it_is_asked_for(tmp_path: Path) -> None:
    data = load(pack(tmp_path), rotations=True)
    assert len(data.train.classes) == 8
    assert data.train.classes[2] == "Greek/01, turned by 90 degrees"
    assert len(data.test.classes) == 2


def test_turns_are_those_of_the_plane() -> None:
    images = torch.randint(0, 256, (4, 1, 3, 3), dtype=torch.uint8)
    found = rotated(ClassSet(ImageSet(images, torch.tensor([0, 1, 0, 1])), ("a", "b")))
    assert found.classes[2:] == tuple(
        f"{name}, turned by {degrees} degrees" for degrees in (90, 180, 270) for name in "ab"
    )
    for image, label in zip(found.images.images[4:], found.images.labels[4:], strict=True):
        turns, character = divmod(int(label), 2)
        alike = [bool((image.rot90(-turns, (1, 2)) == images[place]).all()) for place in (character, character + 2)]
        assert sum(alike) == 1


def test_original_folders_are_read_with_bright_ink(tmp_path: Path) -> None:
    for folder, alphabet in {"images_background": "Greek", "images_evaluation": "Latin"}.items():
        for character in ("character01", "character02"):
            path = tmp_path / folder / alphabet / character
            path.mkdir(parents=True)
            drawing = np.full((105, 105), 255, np.uint8)
            drawing[:, :50] = 0
            Image.fromarray(drawing).convert("1").save(path / "0001_01.png")
    data = load(tmp_path)
    assert data.train.classes == ("Greek/character01", "Greek/character02")
    assert data.test.images.images.shape == (2, 1, 28, 28)
    assert (data.train.images.images[:, :, :, :12] == 255).all()
    assert (data.train.images.images[:, :, :, 15:] == 0).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_y": np.zeros(5, np.int64)}, r"train_x holds 6 images but train_y 5 labels"),
        ({"test_y": np.full(6, 2)}, r"test image 0 has the label 2; labels must be in 0\.\.1"),
        ({"train_alphabet": np.array([0, 1])}, r"train_alphabet names alphabet 1; there are 1"),
        ({"test_alphabets": np.array(["Greek"])}, r"class 'Greek/01' is in train and in test"),
    ],
)
def test_faults_of_a_pack_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(pack(tmp_path, **arrays))


def test_where_nothing_is_found_it_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing found; looked for .*images_background, .*omniglot_small\.npz"):
        load(tmp_path)
    (tmp_path / "images_background").mkdir()
    (tmp_path / "images_evaluation").mkdir()
    with pytest.raises(DataError, match=r"holds no drawings; expected .*ALPHABET/CHARACTER/drawing\.png"):
        load(tmp_path)
