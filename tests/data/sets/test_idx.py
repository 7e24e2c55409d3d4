"""MNIST's files: what is read, under which names, and what is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from datanas.core.errors import DataError
from datanas.data.base import ImageData
from datanas.data.sets.idx import Idx
from datanas.fitting.recognise import recognise

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (12, 9, 7), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 3


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(
    root: Path, form: str = "{part}-{what}-ubyte", test: str = "t10k", packed: bool = False, first: int = 0
) -> Path:
    root.mkdir(exist_ok=True)
    for part, count in (("train", 12), (test, 6)):
        for what, array in (("images-idx3", X), ("labels-idx1", Y + np.uint8(first))):
            content = idx(array[:count])
            name = form.format(part=part, what=what)
            (root / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return root


def load(root: Path) -> ImageData:
    return Idx(Idx.Config(root=root)).load()


@pytest.mark.parametrize(
    ("form", "test", "packed"),
    [
        ("{part}-{what}-ubyte", "t10k", False),
        ("{part}-{what}-ubyte", "t10k", True),
        ("emnist-letters-{part}-{what}-ubyte", "test", True),
    ],
)
def test_the_four_files_are_read_under_their_usual_names(tmp_path: Path, form: str, test: str, packed: bool) -> None:
    data = load(write(tmp_path / "files", form, test, packed))
    assert torch.equal(data.train.images, torch.from_numpy(X)[:, None])
    assert torch.equal(data.train.labels, torch.from_numpy(Y).long())
    assert torch.equal(data.test.images, torch.from_numpy(X[:6])[:, None])
    assert data.classes == ("0", "1", "2")


def test_labels_may_begin_at_any_number(tmp_path: Path) -> None:
    data = load(write(tmp_path / "files", first=1))
    assert data.classes == ("1", "2", "3")
    assert torch.equal(data.train.labels, torch.from_numpy(Y).long())
    assert torch.equal(data.test.labels, torch.from_numpy(Y[:6]).long())


def test_the_name_with_a_dot_is_known_too(tmp_path: Path) -> None:
    root = write(tmp_path / "files")
    for file in list(root.iterdir()):
        file.rename(root / file.name.replace("-idx", ".idx"))
    assert len(load(root).train) == 12
    assert recognise(root)["data"]["name"] == "idx"


def test_colour_images_have_four_axes(tmp_path: Path) -> None:
    root = write(tmp_path / "files")
    colour = RANDOM.integers(0, 256, (12, 9, 7, 3), dtype=np.uint8)
    (root / "train-images-idx3-ubyte").write_bytes(idx(colour))
    (root / "t10k-images-idx3-ubyte").write_bytes(idx(colour[:6]))
    assert torch.equal(load(root).train.images, torch.from_numpy(colour).permute(0, 3, 1, 2))


def test_a_fit_knows_the_folder(tmp_path: Path) -> None:
    found = recognise(write(tmp_path / "files", packed=True))
    assert (found["data"]["name"], found["task"]["name"]) == ("idx", "classification")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-labels-idx1-ubyte", None, "no file of the train labels; expected train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", b"PK\x03\x04", "not an IDX file"),
        ("train-images-idx3-ubyte", idx(X)[:-1], r"755 bytes of data, where \(12, 9, 7\) needs 756"),
        ("train-images-idx3-ubyte", idx(X, 13), "numbers of type 0x0d"),
        ("train-images-idx3-ubyte", idx(X[:11]), "a label for each image"),
        ("my-train-images-idx3-ubyte", idx(X), "several files can be train-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0", "bytes of data"),
        ("t10k-labels-idx1-ubyte", idx(Y[:6] + np.uint8(5)), "the label 5, which no image for training has"),
    ],
)
def test_faults_are_told(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    root = write(tmp_path / "files")
    if content is None:
        (root / name).unlink()
    else:
        (root / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(root)


def test_files_without_images_are_told(tmp_path: Path) -> None:
    root = write(tmp_path / "files")
    (root / "t10k-images-idx3-ubyte").write_bytes(idx(X[:0]))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(Y[:0]))
    with pytest.raises(DataError, match="test has no images"):
        load(root)


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    root = write(tmp_path / "files", packed=True)
    file = root / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be unpacked"):
        load(root)
