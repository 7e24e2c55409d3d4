"""miniImageNet as one packed file of encoded images."""

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
from datanas.data.sets.miniimagenet import MiniImageNet

Shared = Callable[[str], Path]
SPLIT = {"train": 64, "val": 16, "test": 20}


def load(root: Path, **settings: Any) -> Any:
    return MiniImageNet(MiniImageNet.Config(root=root, **settings)).load()


def encoded(grey: int, size: tuple[int, int] = (84, 84)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


def pack(root: Path, *, broken: bytes | None = None, **arrays: Any) -> Path:
    """Two images a class: grey of twice the class's number, and one more."""
    sound: dict[str, Any] = {}
    for split, classes in SPLIT.items():
        files = [encoded(number) for number in range(2 * classes)]
        if broken is not None and split == "val":
            files[3] = broken
        sound[f"{split}_jpg"] = np.frombuffer(b"".join(files), np.uint8)
        sound[f"{split}_off"] = np.cumsum([0, *map(len, files)])
        sound[f"{split}_y"] = np.arange(2 * classes) // 2
        sound[f"{split}_classes"] = np.array([f"{split} {number}" for number in range(classes)])
    path = root / "miniimagenet.npz"
    np.savez(path, **{**sound, **arrays})
    return path


def test_the_pack_has_the_published_split(shared: Shared) -> None:
    data = load(shared("miniimagenet100.npz").parent, images_per_class=2)
    assert {name: (len(part.classes), len(part)) for name, part in data.parts().items()} == {
        "train": (64, 128),
        "validation": (16, 32),
        "test": (20, 40),
    }
    assert data.image_shape == (3, 84, 84)
    assert data.train.classes[0] == "house finch"
    assert data.validation.classes[0] == "goose"
    assert data.test.classes[0] == "nematode"
    assert 0.3 < data.mean.mean() < 0.6


def test_images_keep_their_labels(tmp_path: Path) -> None:
    data = load(pack(tmp_path))
    for part in data.parts().values():
        greys = part.images.images[:, :, 40, 40]
        assert torch.equal(greys, greys[:, :1].expand(-1, 3))
        assert torch.equal(greys[:, 0].long() // 2, part.images.labels)


def test_the_first_images_of_each_class_may_be_enough(tmp_path: Path) -> None:
    data = load(pack(tmp_path), images_per_class=1)
    assert data.test.images.images[:, 0, 0, 0].tolist() == list(range(0, 40, 2))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"no image", r"val image 3 is broken \(UnidentifiedImageError"),
        (encoded(0, (80, 84)), r"val image 3 is 80x84; it must be 84x84"),
    ],
)
def test_a_broken_image_is_named(tmp_path: Path, broken: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(pack(tmp_path, broken=broken))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"val_classes": np.array(["a", "b"])}, r"val has 2 classes, that of the published split 16"),
        ({"test_y": np.arange(20)}, r"test_jpg holds 40 images but test_y 20 labels"),
        ({"train_off": np.array([0, 10**9])}, r"train_off must ascend from 0 to at most \d+"),
        ({"test_y": np.full(40, 20)}, r"test image 0 has the label 20; labels must be in 0..19"),
    ],
)
def test_faults_of_a_pack_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(pack(tmp_path, **arrays))


def test_where_nothing_is_found_it_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for .*miniimagenet\.npz, .*miniimagenet100\.npz; set --data\.root"):
        load(tmp_path)
