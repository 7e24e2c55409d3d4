"""A user's own arrays: `train_x`, `train_y`, `test_x`, `test_y`, or `x` and `y`, in one .npz file."""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from datanas.config import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images, check_set
from datanas.data.batches import stratified
from datanas.data.memory import require_memory
from datanas.errors import DataError

Layout = Literal["auto", "channels_last", "channels_first"]


class Archive:
    """The arrays of an .npz file, read one by one and never unpickled.

    Raises:
        DataError: there is no such file, or it is no .npz archive.
    """

    def __init__(self, path: Path, where: str) -> None:
        if not path.is_file():
            raise DataError(f"{where}: no such file")
        try:
            with zipfile.ZipFile(path) as archive:
                self._bytes = {
                    entry.filename.removesuffix(".npy"): entry.file_size
                    for entry in archive.infolist()
                    if entry.filename.endswith(".npy")
                }
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{where}: not an .npz archive ({error})") from None
        self._path, self._where = path, where

    def __contains__(self, key: str) -> bool:
        return key in self._bytes

    def __getitem__(self, key: str) -> NDArray[Any]:
        """One array.

        Raises:
            DataError: it is not there, is pickled, or cannot be read.
        """
        if key not in self:
            raise DataError(
                f"{self._where}: no array {key!r}; the file holds {', '.join(sorted(self._bytes)) or 'none'}"
            )
        require_memory(self._bytes[key], f"{self._where}: {key}", "store fewer or smaller images, or uint8")
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                array: NDArray[Any] = arrays[key]
        except Exception as error:  # a damaged archive can fail in any layer: zip, zlib, the header, the shape
            if "allow_pickle" in str(error):
                raise DataError(f"{self._where}: {key} holds pickled objects; store plain arrays") from None
            raise DataError(f"{self._where}: {key} cannot be read ({error})") from None
        return array


@register_dataset("npz")
class Npz(Dataset[ImageData]):
    """Arrays `train_x`, `train_y`, `test_x`, `test_y`, or `x`, `y` to be split; `classes` may name the classes.

    Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3, uint8 in 0..255 or floating in 0..1; labels are
    whole numbers from 0. Where both orders are possible, the last axis is taken for the channels unless `layout` says
    otherwise.
    """

    class Config(ComponentConfig):
        name: Literal["npz"] = "npz"
        root: Path = Field(description="the .npz file")
        layout: Layout = Field(default="auto", description="where the channels stand in images of four axes")
        test_share: float = Field(default=0.2, gt=0, lt=1, description="share of x, y that becomes the test set")
        split_seed: int = Field(default=0, description="seed of that choice")

    config: Config

    def load(self) -> ImageData:
        where = f"npz {self.config.root}"
        archive = Archive(self.config.root, where)
        if "x" in archive and "train_x" not in archive:
            both = _image_set(archive, "x", "y", self.config.layout, where)
            classes = _classes(archive, both.labels, where)
            check_set(both, len(classes), f"{where}: x")
            train, test = self._split(both)
        else:
            train = _image_set(archive, "train_x", "train_y", self.config.layout, where)
            test = _image_set(archive, "test_x", "test_y", self.config.layout, where)
            classes = _classes(archive, torch.cat([train.labels, test.labels]), where)
        check_images(train, test, classes, where)
        return ImageData(train, test, classes)

    def _split(self, both: ImageSet) -> tuple[ImageSet, ImageSet]:
        share = 1 - Fraction(str(self.config.test_share))
        first, second = stratified(both.labels, share, self.config.split_seed, "test split")
        return both.select(first), both.select(second)


def _image_set(archive: Archive, images: str, labels: str, layout: Layout, where: str) -> ImageSet:
    x = to_images(archive[images], layout, f"{where}: {images}")
    y = to_labels(archive[labels], f"{where}: {labels}")
    if len(x) != len(y):
        raise DataError(f"{where}: {images} holds {len(x)} images but {labels} {len(y)} labels")
    return ImageSet(x, y)


def to_images(array: NDArray[Any], layout: Layout, where: str) -> Tensor:
    """Bring an array of images into the form (n, c, h, w), uint8 or float32.

    Raises:
        DataError: another type of number, number of axes or channels.
    """
    if array.dtype != np.uint8 and array.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(f"{where} must be uint8 in 0..255 or floating in 0..1, got {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim != 4:
        raise DataError(f"{where} must have the shape (n, h, w), (n, h, w, c) or (n, c, h, w), got {array.shape}")
    else:
        axes = {"channels_last": (3,), "channels_first": (1,), "auto": (3, 1)}[layout]
        axis = next((axis for axis in axes if array.shape[axis] in (1, 3)), None)
        if axis is None:
            raise DataError(f"{where} must have 1 or 3 channels, got the shape {array.shape} (layout {layout})")
        array = np.moveaxis(array, axis, 1)
    wanted = np.uint8 if array.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, dtype=wanted))


def to_labels(array: NDArray[Any], where: str) -> Tensor:
    """Bring an array of labels into the form (n,), int64.

    Raises:
        DataError: not whole numbers, or not one axis.
    """
    if array.dtype.kind not in "iu":
        raise DataError(f"{where} must be whole numbers, got {array.dtype}")
    if array.ndim != 1:
        raise DataError(f"{where} must have the shape (n,), got {array.shape}")
    return torch.from_numpy(array.astype(np.int64))


def _classes(archive: Archive, labels: Tensor, where: str) -> tuple[str, ...]:
    if "classes" in archive:
        names = archive["classes"]
        if names.ndim != 1:
            raise DataError(f"{where}: classes must have the shape (c,), got {names.shape}")
        return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist())
    largest = int(labels.max()) if len(labels) else 0
    if largest >= len(labels) > 0:
        raise DataError(f"{where}: a label is {largest} but there are only {len(labels)} images; count classes from 0")
    return tuple(map(str, range(largest + 1)))
