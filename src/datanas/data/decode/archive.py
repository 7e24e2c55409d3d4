"""Arrays in an .npz file: what they are called, and the labels or targets in them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.paths import require_file
from datanas.data.decode.memory import require_memory
from datanas.data.decode.parts import Part, part_of, words_of
from datanas.data.types.targets import Kind, is_one_hot

_ROLES = {
    **dict.fromkeys(("x", "image", "images"), "x"),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), "y"),
    **dict.fromkeys(("group", "groups"), "groups"),
}
"""What an array holds, by a word of its name."""
_ENCODED = frozenset({"jpg", "jpeg", "png", "webp"})
PartOrWhole = Part | Literal["whole"]


class Archive:
    """The arrays of an .npz file, read one by one and never unpickled.

    Raises:
        DataError: there is no such file, or it is no .npz archive.
    """

    def __init__(self, path: Path, where: str) -> None:
        require_file(path, DataError, where)
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

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that there are."""
        return tuple(self._bytes)

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
        return array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes this machine's byte order alone


@dataclass(frozen=True)
class Arrays:
    """What the arrays of a part are called; no labels, and no groups of images that belong together, where none are."""

    images: str
    labels: str | None
    groups: str | None = None


def find_arrays(names: Iterable[str], where: str) -> dict[PartOrWhole, Arrays]:
    """The arrays of each part by their names, in any case: `train_x` and `train_y`, `X_train`, `test_images`, `x`, `y`,
    and of images that belong together `groups` or `train_groups`.

    Args:
        where: the data set and its file, to begin a message with.

    Raises:
        DataError: two arrays for the same, or labels without images.
    """
    array_names: dict[tuple[PartOrWhole, str], str] = {}
    for name in names:
        words = words_of(name)
        roles = {_ROLES[word] for word in words if word in _ROLES}
        rest = "_".join(word for word in words if word not in _ROLES)
        part = part_of(rest)
        if len(roles) != 1 or (rest and part is None):
            continue
        key: tuple[PartOrWhole, str] = (part or "whole", roles.pop())
        if key in array_names:
            raise DataError(f"{where}: {array_names[key]} and {name} both look like the same; keep one of them")
        array_names[key] = name
    parts = dict.fromkeys(part for part, _ in array_names)
    if lone := [name for (part, role), name in array_names.items() if role == "y" and (part, "x") not in array_names]:
        if encoded := encoded_arrays(names):
            raise DataError(
                f"{where}: {encoded[0]} are encoded images, which only the data set reads that packs them so: say its "
                "name, as in datanas fit cifar10 --data.root FILE; otherwise store their pixels as plain arrays"
            )
        raise DataError(f"{where}: {lone[0]} are labels without images; the file holds {', '.join(sorted(names))}")
    if lone := [
        name for (part, role), name in array_names.items() if role == "groups" and (part, "x") not in array_names
    ]:
        raise DataError(f"{where}: {lone[0]} are groups of no images; those of train_x are called train_groups")
    return {
        part: Arrays(array_names[part, "x"], array_names.get((part, "y")), array_names.get((part, "groups")))
        for part in parts
        if (part, "x") in array_names
    }


def encoded_arrays(names: Iterable[str]) -> list[str]:
    """The arrays that by their names hold encoded images, such as `train_jpg`."""
    return [name for name in names if not _ENCODED.isdisjoint(words_of(name))]


def to_labels(array: NDArray[Any], where: str) -> Tensor:
    """Bring an array of labels into the form (n,), int64.

    Raises:
        DataError: not whole numbers, or not one axis.
    """
    if array.dtype.kind in "iufb" and is_one_hot(torch.from_numpy(array)):
        array = array.argmax(axis=1)
    if array.dtype.kind not in "iu":
        raise DataError(f"{where} must be whole numbers, got {array.dtype}")
    if array.ndim != 1:
        raise DataError(f"{where} must have the shape (n,), got {array.shape}")
    return torch.from_numpy(array.astype(np.int64))


def group_names(array: NDArray[Any], images: int, where: str) -> list[Any]:
    """What the group of each image is called, from an array of numbers or names.

    Raises:
        DataError: not one for each image.
    """
    if array.shape != (images,) or array.dtype.kind not in "iubUS":
        raise DataError(
            f"{where} must be {images} whole numbers or names, one an image, got {array.dtype} {array.shape}"
        )
    names: list[Any] = array.tolist()
    return names


def to_rows(array: NDArray[Any], kind: Kind, where: str) -> Tensor:
    """Bring targets into the form (n, k), float32.

    Raises:
        DataError: no numbers, or not one or two axes.
    """
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where} must be numbers, got {array.dtype}")
    if array.ndim == 1 and kind == "numbers":
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{where} must have the shape (n, k), a column a target, got {array.shape}")
    return torch.from_numpy(array.astype(np.float32))
