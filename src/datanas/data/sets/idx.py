"""MNIST and what comes in its files (Fashion-MNIST, KMNIST, EMNIST): IDX, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import folder_entries, read_bytes, require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images
from datanas.data.decode.image_list import is_hidden
from datanas.data.decode.memory import require_memory
from datanas.data.decode.suspect import examine_set, tell_suspects

IMAGES, LABELS = ("idx3-ubyte", "idx4-ubyte"), ("idx1-ubyte",)
_PARTS = {"train": ("train",), "test": ("t10k", "test")}
_UNSIGNED_BYTES = 8  # the code of their type


@register_dataset("idx")
class Idx(Dataset[ImageData]):
    """Images and labels in four files, such as train-images-idx3-ubyte.gz (LeCun, Cortes and Burges, MNIST).

    Their names have `train` or `t10k` (or `test`), and end in `idx3-ubyte` or `idx1-ubyte`, with or without .gz; a dot
    may stand for the hyphen before `idx`. Classes are the labels that images for training have, from any number on.
    """

    class Config(ComponentConfig):
        name: Literal["idx"] = "idx"
        root: Path = Field(description="the folder of the four files")

    config: Config

    def load(self) -> ImageData:
        root = self.config.root
        where = f"idx {shown(root)}"
        require_folder(root, DataError, where)
        train, test = (_part(root, part, where) for part in _PARTS)
        numbers = torch.from_numpy(np.unique(train.labels.numpy()))
        if len(unknown := test.labels[~torch.isin(test.labels, numbers)]):
            raise DataError(f"{where}: a test image has the label {int(unknown[0])}, which no image for training has")
        train, test = (part.with_labels(torch.searchsorted(numbers, part.labels)) for part in (train, test))
        classes = tuple(map(str, numbers.tolist()))
        check_images(train, test, classes, where)
        tell_suspects({"train": examine_set(train, classes), "test": examine_set(test, classes)}, where)
        return ImageData(train, test, classes)


def is_idx(name: str) -> bool:
    """Whether a file of this name holds images of a training set in this form."""
    return _ends(name, IMAGES) and "train" in name.lower()


def _part(root: Path, part: str, where: str) -> ImageSet:
    images = read_idx(_find(root, part, IMAGES, where))
    labels = read_idx(_find(root, part, LABELS, where))
    if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{where}: {part} has images {images.shape} and labels {labels.shape}; a label for each image is needed"
        )
    if not len(images):
        raise DataError(f"{where}: {part} has no images")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    return ImageSet(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))


def _find(root: Path, part: str, ends: tuple[str, ...], where: str) -> Path:
    there = [entry for entry in folder_entries(root, DataError) if not is_hidden(entry.name)]
    matching = [
        entry for entry in there if _ends(entry.name, ends) and any(word in entry.name.lower() for word in _PARTS[part])
    ]
    plain = [entry for entry in matching if entry.suffix != ".gz"]
    if len(plain or matching) == 1:
        return (plain or matching)[0]
    what, kind = ("images", "idx3") if ends == IMAGES else ("labels", "idx1")
    expected = f"{_PARTS[part][0]}-{what}-{kind}-ubyte"
    if not matching:
        raise DataError(f"{where}: no file of the {part} {what}; expected {expected} or {expected}.gz")
    names = ", ".join(sorted(entry.name for entry in matching))
    raise DataError(f"{where}: several files can be {expected}: {names}; leave one of them there")


def _ends(name: str, ends: tuple[str, ...]) -> bool:
    return name.lower().removesuffix(".gz").endswith(ends)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The unsigned bytes of an IDX file: two zero bytes, the type, the number of axes, their big-endian lengths.

    Raises:
        DataError: it is none, of another type, or cut off.
    """
    content = read_bytes(path, DataError)
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{shown(path)}: cannot be unpacked ({error})") from None
    if len(content) < 4 or content[:2] != b"\0\0" or not 1 <= content[3] <= 4:
        raise DataError(f"{shown(path)}: not an IDX file, which begins with two zero bytes, a type and up to 4 axes")
    if content[2] != _UNSIGNED_BYTES:
        raise DataError(f"{shown(path)}: holds numbers of type {content[2]:#04x}; unsigned bytes (0x08) are needed")
    begin = 4 + 4 * content[3]
    shape = tuple(int(length) for length in np.frombuffer(content[4:begin].ljust(4 * content[3], b"\0"), ">u4"))
    size = math.prod(shape)
    if len(content) - begin != size:
        raise DataError(f"{shown(path)}: {len(content) - begin:,} bytes of data, where {shape} needs {size:,}")
    require_memory(size, shown(path), "keep fewer images")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)
