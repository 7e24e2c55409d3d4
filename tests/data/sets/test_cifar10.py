from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.base import ImageData
from datanas.data.sets.cifar10 import Cifar10
from datanas.data.sets.npz import Npz

RANDOM = np.random.default_rng(0)
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
PIXELS = {name: RANDOM.integers(0, 256, (10, 3072), dtype=np.uint8) for name in NAMES}
LABELS = {name: RANDOM.permutation(10) for name in NAMES}


def load(root: Path, **settings: Any) -> ImageData:
    return Cifar10(Cifar10.Config(root=root, **settings)).load()


def python2_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch opcode for opcode as the published files are: protocol 2 of Python 2, with byte strings."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    content = pixels.tobytes()
    kind = b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R(K\x03" + short(b"|") + b"NNN" + number(-1) * 2
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R(K\x01"
        + number(pixels.shape[0]) + number(pixels.shape[1]) + b"\x86" + kind + b"K\x00tb\x89"
        + b"T" + struct.pack("<i", len(content)) + content + b"tb"
    )  # fmt: skip
    listed = b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    fields = short(b"batch_label") + short(b"x") + short(b"labels") + listed + short(b"data") + array
    return b"\x80\x02}(" + fields + b"u."


def write_python(root: Path, encode: Callable[[np.ndarray, np.ndarray], bytes]) -> None:
    (root / "cifar-10-batches-py").mkdir()
    for name in NAMES:
        (root / "cifar-10-batches-py" / name).write_bytes(encode(PIXELS[name], LABELS[name]))


def write_binary(root: Path) -> None:
    (root / "cifar-10-batches-bin").mkdir()
    for name in NAMES:
        records = np.concatenate([LABELS[name][:, None].astype(np.uint8), PIXELS[name]], axis=1)
        (root / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())


def assert_is_written_data(data: ImageData) -> None:
    pixels = np.concatenate([PIXELS[name] for name in NAMES[:5]]).reshape(50, 3, 32, 32)
    assert np.array_equal(data.train.images.numpy(), pixels)
    assert data.train.labels.tolist() == np.concatenate([LABELS[name] for name in NAMES[:5]]).tolist()
    assert np.array_equal(data.test.images.numpy(), PIXELS["test_batch"].reshape(10, 3, 32, 32))
    assert data.test.labels.tolist() == LABELS["test_batch"].tolist()


@pytest.mark.parametrize("protocol", range(5))
def test_batches_pickled_by_python_3_are_read(tmp_path: Path, protocol: int) -> None:
    write_python(tmp_path, lambda pixels, labels: pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol))
    assert_is_written_data(load(tmp_path))


def test_batches_in_the_published_form_are_read(tmp_path: Path) -> None:
    assert pickle.loads(python2_batch(PIXELS["test_batch"], LABELS["test_batch"]), encoding="latin1")["data"].shape
    write_python(tmp_path, python2_batch)
    assert_is_written_data(load(tmp_path))


def test_binary_batches_are_read(tmp_path: Path) -> None:
    write_binary(tmp_path)
    assert_is_written_data(load(tmp_path))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the pickle ran')",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Malicious()}),
        pickle.dumps({b"data": np.array([Malicious()], dtype=object), b"labels": [0]}),
        pickle.dumps({b"data": PIXELS["test_batch"].astype(np.int64), b"labels": [0]}),
        pickle.dumps({b"labels": [0]}),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": PIXELS["test_batch"], b"labels": [0]}),
        python2_batch(PIXELS["test_batch"], LABELS["test_batch"])[:5000],
        b"",
    ],
)
def test_a_bad_batch_is_named_and_runs_nothing(tmp_path: Path, content: bytes) -> None:
    write_python(tmp_path, python2_batch)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3: not a CIFAR-10 batch"):
        load(tmp_path)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    write_python(tmp_path, python2_batch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DataError, match="test_batch: No such file"):
        load(tmp_path)


def test_binary_batches_of_another_length_are_refused(tmp_path: Path) -> None:
    write_binary(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"data_batch_2\.bin: 100 bytes are not records of 3073"):
        load(tmp_path)


def test_a_label_beyond_nine_is_named(tmp_path: Path) -> None:
    write_binary(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(DataError, match=r"test image 0 has the label 10; labels must be in 0\.\.9"):
        load(tmp_path)


def test_what_was_looked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    for name in ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10.npz"):
        assert str(tmp_path / name) in str(caught.value)
    assert "unpack cifar-10-python.tar.gz there" in str(caught.value)


def test_an_archive_that_was_not_unpacked_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(DataError, match=f"unpack {tmp_path}/cifar-10-python.tar.gz there"):
        load(tmp_path)


def sheet(pixels: np.ndarray) -> bytes:
    """2x5 tiles of (10, 3, 32, 32) as one lossless picture."""
    stream = io.BytesIO()
    tiles = pixels.reshape(2, 5, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(64, 160, 3)
    Image.fromarray(tiles).save(stream, "PNG")
    return stream.getvalue()


def write_sheets(path: Path, **change: Any) -> None:
    arrays: dict[str, Any] = {"grid": [2, 5]}
    for split, names in (("train", NAMES[:5]), ("test", NAMES[5:])):
        sheets = [sheet(PIXELS[name]) for name in names]
        arrays[f"{split}_jpg"] = np.frombuffer(b"".join(sheets), np.uint8)
        arrays[f"{split}_off"] = np.cumsum([0, *map(len, sheets)])
        arrays[f"{split}_y"] = np.concatenate([LABELS[name] for name in names]).astype(np.uint8)
    np.savez(path, **arrays | change)


def test_sheets_are_cut_into_tiles(tmp_path: Path) -> None:
    write_sheets(tmp_path / "cifar10.npz")
    assert_is_written_data(load(tmp_path))
    assert_is_written_data(load(tmp_path / "cifar10.npz"))


def test_only_the_sheets_that_are_needed_are_decoded(tmp_path: Path) -> None:
    write_sheets(tmp_path / "cifar10.npz")
    with np.load(tmp_path / "cifar10.npz") as arrays:
        content = arrays["train_jpg"].copy()
        content[arrays["train_off"][2] :] = 0
    write_sheets(tmp_path / "cifar10.npz", train_jpg=content)
    assert len(load(tmp_path, train_images=20).train) == 20
    with pytest.raises(DataError, match="train_jpg is damaged"):
        load(tmp_path, train_images=21)


def test_an_archive_without_images_names_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", train_y=np.arange(10))
    with pytest.raises(DataError, match="no array 'train_jpg'; the file holds train_y"):
        load(tmp_path)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    x, y = np.zeros((10, 28, 28, 3), np.uint8), np.arange(10)
    np.savez(tmp_path / "cifar10.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    with pytest.raises(DataError, match=r"train must be uint8 images .*, got uint8 \(10, 3, 28, 28\)"):
        load(tmp_path)


def test_a_part_is_a_balanced_prefix(tmp_path: Path) -> None:
    write_binary(tmp_path)
    data = load(tmp_path, train_images=20, test_images=5)
    assert torch.bincount(data.train.labels).tolist() == [2] * 10
    assert np.array_equal(data.train.images[:10].numpy(), PIXELS["data_batch_1"].reshape(10, 3, 32, 32))
    assert len(data.test) == 5


def test_a_part_cannot_exceed_the_whole(tmp_path: Path) -> None:
    write_binary(tmp_path)
    with pytest.raises(DataError, match="test_images is 11 but there are only 10"):
        load(tmp_path, test_images=11)


def test_the_real_pack_agrees_with_its_lossless_part(shared: Callable[[str], Path]) -> None:
    data = load(shared("cifar10.npz"), train_images=1000, test_images=500)
    mini = Npz(Npz.Config(root=shared("cifar10_mini.npz"))).load()
    assert torch.equal(data.train.labels, mini.train.labels)
    assert torch.equal(data.test.labels, mini.test.labels)
    assert data.classes == mini.classes
    error = (data.train.images.int() - mini.train.images.int()).abs()
    assert error.max() <= 26
    assert error.float().mean() < 3


def test_the_lossless_pack_is_read_as_it_is(shared: Callable[[str], Path]) -> None:
    root = shared("cifar10_mini.npz")
    assert torch.equal(load(root).train.images, Npz(Npz.Config(root=root)).load().train.images)
