"""CIFAR-10 (Krizhevsky 2009) in its two original forms, as torchvision unpacks them, or packed as one .npz file."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import read_bytes, require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images
from datanas.data.decode.archive import Archive, to_labels
from datanas.data.decode.arrays import to_images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_PIXELS = 3 * 32 * 32


@register_dataset("cifar10")
class Cifar10(Dataset[ImageData]):
    """60,000 colour images of 32x32 pixels in ten classes, 50,000 of them for training."""

    class Config(ComponentConfig):
        name: Literal["cifar10"] = "cifar10"
        root: Path = Field(
            description="the folder of cifar-10-batches-py, cifar-10-batches-bin or cifar10.npz, or an .npz file"
        )
        train_images: int | None = Field(
            default=None, ge=1, description="only the first so many, classes as even as possible"
        )
        test_images: int | None = Field(
            default=None, ge=1, description="only the first so many, classes as even as possible"
        )

    packed_arrays = frozenset({"train_jpg", "train_off", "train_y", "test_jpg", "grid"})
    config: Config

    def load(self) -> ImageData:
        read, path = self._find()
        where = f"cifar10 {path}"
        train = self._part(read, path, "train", self.config.train_images)
        test = self._part(read, path, "test", self.config.test_images)
        check_images(train, test, CLASSES, where)
        return ImageData(train, test, CLASSES, bears_mirroring=True)

    def _find(self) -> tuple[_Reader, Path]:
        root = self.config.root
        if root.suffix == ".npz":
            return _read_npz, root
        require_folder(root, DataError, f"cifar10 {shown(root)}")
        known = {
            root / "cifar-10-batches-py": _read_python,
            root / "cifar-10-batches-bin": _read_binary,
            root / "cifar10.npz": _read_npz,
        }
        for path, read in known.items():
            if path.exists():
                return read, path
        message = f"cifar10: nothing found; looked for {', '.join(map(str, known))}"
        for packed in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"):
            if (root / packed).exists():
                raise DataError(f"{message}; unpack {root / packed} there (tar -xzf)")
        raise DataError(f"{message}; unpack cifar-10-python.tar.gz there or set --data.root")

    def _part(self, read: _Reader, path: Path, split: Literal["train", "test"], count: int | None) -> ImageSet:
        images, labels = read(path, split, count)
        part = ImageSet(torch.from_numpy(images), torch.from_numpy(labels))
        if count is None:
            return part
        if count > len(part):
            raise DataError(f"cifar10 {path}: {split}_images is {count} but there are only {len(part)}")
        return part.balanced_prefix(count)


_Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
_Reader = Callable[[Path, Literal["train", "test"], int | None], _Arrays]


def _read_binary(folder: Path, split: Literal["train", "test"], count: int | None) -> _Arrays:
    """Records of one label byte and the red, green and blue plane."""
    batches = []
    for name in _TRAIN if split == "train" else ("test_batch",):
        file = folder / f"{name}.bin"
        content = read_bytes(file, DataError)
        if not content or len(content) % (1 + _PIXELS):
            raise DataError(f"cifar10 {file}: {len(content)} bytes are not records of {1 + _PIXELS}")
        batches.append(np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS))
    records = np.concatenate(batches)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _read_python(folder: Path, split: Literal["train", "test"], count: int | None) -> _Arrays:
    """Pickled dictionaries of `data` (n, 3072) and `labels`."""
    images, labels = [], []
    for name in _TRAIN if split == "train" else ("test_batch",):
        file = folder / name
        try:
            batch = _BatchReader(io.BytesIO(read_bytes(file, DataError)), encoding="bytes").load()
            fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
            pixels = fields["data"].array()
            classes = np.array(fields["labels"], np.int64)
            images.append(pixels.reshape(len(classes), 3, 32, 32))
            labels.append(classes)
        except DataError:
            raise
        except Exception as error:  # what a damaged pickle raises is not limited to a few types
            raise DataError(f"cifar10 {file}: not a CIFAR-10 batch ({type(error).__name__}: {error})") from None
    return np.concatenate(images), np.concatenate(labels)


def _read_npz(path: Path, split: Literal["train", "test"], count: int | None) -> _Arrays:
    """Lossless pixels (`*_x`), or balanced sheets of `grid` tiles as JPEG, of which only those needed are decoded."""
    where = f"cifar10 {path}"
    archive = Archive(path, where)
    labels = to_labels(archive[f"{split}_y"], f"{where}: {split}_y").numpy()
    if f"{split}_x" in archive:
        images = to_images(archive[f"{split}_x"], "auto", f"{where}: {split}_x").numpy()
    else:
        images = _decode_sheets(archive, split, count, where)
        if count is not None:
            labels = labels[: len(images)]
    if images.shape[1:] != (3, 32, 32) or images.dtype != np.uint8 or len(images) != len(labels):
        raise DataError(
            f"{where}: {split} must be uint8 images (n, 3, 32, 32) with a label each, "
            f"got {images.dtype} {images.shape} and {len(labels)} labels"
        )
    return images, labels


def _decode_sheets(archive: Archive, split: str, count: int | None, where: str) -> NDArray[np.uint8]:
    content, ends = archive[f"{split}_jpg"], archive[f"{split}_off"].tolist()
    rows, columns = archive["grid"].tolist()
    sheets = len(ends) - 1
    if count is not None:
        sheets = min(sheets, -(-count // (rows * columns)))
    images = np.empty((sheets, rows, columns, 3, 32, 32), np.uint8)

    def decode(sheet: int) -> None:
        with Image.open(io.BytesIO(content[ends[sheet] : ends[sheet + 1]].tobytes())) as image:
            tiles = np.asarray(image.convert("RGB")).reshape(rows, 32, columns, 32, 3)
        images[sheet] = tiles.transpose(0, 2, 4, 1, 3)

    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(decode, range(sheets)))
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {split}_jpg is damaged ({error})") from None
    return images.reshape(-1, 3, 32, 32)


class _Recorded:
    """Stands for a numpy array, or its type, in a pickle: keeps what the file says and makes nothing of it."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        _, shape, kind, column_major, content = self.state
        if kind.arguments[0] not in ("u1", b"u1"):
            raise ValueError(f"pixels of the type {kind.arguments[0]!r}")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if column_major else "C")


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


class _BatchReader(pickle.Unpickler):
    """Reads the containers and numbers of a pickle. The few names that an array needs lead to recorders of our own,
    so nothing that a file names is ever imported or called.
    """

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Recorded
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Recorded
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it names {module}.{name}, which a batch has no need of")
