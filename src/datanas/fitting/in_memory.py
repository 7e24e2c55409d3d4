"""Data that somebody holds in Python, written to a file that a fit reads, and reads again when it goes on.

Arrays, tensors, PIL images and any `torch.utils.data.Dataset` become one .npz, called by its content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from datanas.core.errors import ConfigError, DataError
from datanas.data.decode.arrays import Layout, channels_first
from datanas.data.types.targets import TargetKind, kind_of
from datanas.fitting.array_file import write_arrays

_IMAGE_KEYS, _LABEL_KEYS = ("image", "img", "pixels", "x"), ("label", "labels", "target", "y")
_OF_TORCH = (1, 2, 3, 4)
"""Channels that a tensor (n, c, h, w) is taken to have, as torch has them, whatever its other sides are."""
_GREY_MODES = ("1", "L", "LA", "La")
_TAKEN = (
    "give a path, (X, y), a torch Dataset of (image, label), or a pair (training, testing) of two of these: "
    "X of images, y their labels"
)


@dataclass(frozen=True)
class Labelled:
    """Images in memory.

    Attributes:
        images: (n, h, w) or, with the channels last, (n, h, w, c).
        labels: (n,), numbers or words.
        names: of labels that are numbers from 0; None where they are their own names.
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    names: tuple[str, ...] | None = None


def write_in_memory(
    data: Any, folder: Path, *, targets: TargetKind = "auto", only_classes: bool = False, groups: Any = None
) -> tuple[Path, NDArray[Any]]:
    """Write images and labels as an .npz called by its content, so that the same data are the same file.

    Args:
        data: (X, y), a Dataset, or a pair (training, testing) of two of these.
        folder: where to; it is made.
        targets: what the labels are; auto: by their form. Those that are no classes are written as they are.
        only_classes: whether several labels an image, and numbers, are refused.
        groups: (n,), numbers or words: training images of one group are on one side of every split.

    Returns:
        The file, and the labels in the order of their numbers in it.

    Raises:
        DataError: what cannot be learned from; the message names the image.
        ConfigError: something else than data.
    """
    parts = _parts(data)
    names = next((each.names for each in parts.values()), None)
    given = {**_images(parts), **_groups(parts, groups)}
    rows = _rows(parts, targets)
    if rows is not None and not only_classes:
        return write_arrays({**given, **rows}, folder), np.array([])
    if rows is not None:
        raise DataError("y: labels must be whole numbers or words; for others take datanas.fit")
    try:
        values, numbers = np.unique(np.concatenate([each.labels for each in parts.values()]), return_inverse=True)
    except TypeError:
        raise DataError("y: labels must be all numbers or all words, and none may be missing") from None
    if len(values) > max(2, len(numbers) // 2):
        raise DataError(f"y: {len(numbers)} images have {len(values)} different labels; a class needs several images")
    arrays = {**given, "classes": np.array([_name(value, names) for value in values.tolist()])}
    start = 0
    for part, each in parts.items():
        arrays[f"{part}_y".removeprefix("whole_")] = numbers[start : start + len(each.labels)].reshape(-1)
        start += len(each.labels)
    return write_arrays(arrays, folder), values


def _images(parts: Mapping[str, Labelled]) -> dict[str, NDArray[Any]]:
    return {f"{part}_x".removeprefix("whole_"): each.images for part, each in parts.items()}


def _groups(parts: Mapping[str, Labelled], groups: Any) -> dict[str, NDArray[Any]]:
    """Which images for training belong together; of one set alone which of all."""
    if groups is None:
        return {}
    name, learned = next(iter(parts.items()))
    array = _array(groups, "groups")
    if array.dtype == object and any(each is None or each != each for each in array.flat):
        raise DataError("groups: some are missing; give each such image a group of its own")
    if array.shape != (len(learned.labels),) or array.dtype.kind not in "iubUSO":
        raise DataError(
            f"groups: must be {len(learned.labels)} whole numbers or words, one an image for training, got "
            f"{array.dtype} {array.shape}"
        )
    return {f"{name}_groups".removeprefix("whole_"): array.astype(str) if array.dtype == object else array}


def _rows(parts: Mapping[str, Labelled], targets: TargetKind) -> dict[str, NDArray[Any]] | None:
    """Labels that are rows, or numbers with fractions, or are said to be such, as they are; None where classes."""
    are_numbers = all(each.labels.dtype.kind in "iufb" for each in parts.values())
    if targets in ("labels", "numbers"):
        if not are_numbers:
            raise DataError(f"y: must be numbers where targets are {targets}")
    else:
        kinds = {
            None if each.labels.dtype.kind not in "iufb" else kind_of(torch.from_numpy(each.labels))
            for each in parts.values()
        }
        if kinds == {None} and all(each.labels.ndim == 1 for each in parts.values()):
            return None
    return {f"{part}_y".removeprefix("whole_"): each.labels for part, each in parts.items()}


def is_in_memory(data: object) -> bool:
    """Whether these are data themselves, and no path or name of some."""
    return not isinstance(data, str | Path)


def _name(value: object, names: tuple[str, ...] | None) -> str:
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return str(value)


def _parts(data: Any) -> dict[str, Labelled]:
    """The data by what they are for; of one set alone "whole"."""
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_set, data)):
        return dict(zip(("train", "test"), map(_labelled, data), strict=True))
    if not _is_set(data):
        raise ConfigError(f"data: {type(data).__name__} is nothing to fit; {_TAKEN}")
    return {"whole": _labelled(data)}


def _is_set(data: Any) -> bool:
    """Whether this is a Dataset, or a tuple (X, y)."""
    if isinstance(data, Dataset):
        return True
    if isinstance(data, DataLoader):
        raise ConfigError("data: give the data set itself, loader.dataset; a fit makes its own batches")
    return isinstance(data, tuple) and len(data) == 2 and not any(isinstance(each, Dataset) for each in data)


def _labelled(data: Any) -> Labelled:
    if isinstance(data, Dataset):
        return _of_dataset(data)
    x, y = data
    return of_arrays(x, y)


def of_arrays(x: Any, y: Any) -> Labelled:
    """Images and labels that lie apart.

    Raises:
        DataError: there are no labels, other images than labels, or no images.
    """
    if y is None:
        raise DataError("y: is needed with images; of folders of classes give the path alone")
    images = _stacked(x)
    return Labelled(images, _labels(y, len(images)))


def _labels(y: Any, count: int) -> NDArray[Any]:
    """Labels (count,) or (count, k), as torch takes them: of this machine's byte order, without gaps."""
    is_of_tensors = isinstance(y, Sequence) and any(isinstance(each, Tensor) for each in y)
    labels = _array([_array(each, "y") for each in y] if is_of_tensors else y, "y")
    if labels.ndim not in (1, 2) or len(labels) != count:
        raise DataError(f"y: must have the shape ({count},), a label an image, got {labels.shape}")
    if labels.ndim == 2 and labels.dtype.kind not in "iufb":
        raise DataError(f"y: rows of labels must be numbers, 0 and 1 for labels that hold, got {labels.dtype}")
    return np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))


def _of_dataset(data: Dataset[Any]) -> Labelled:
    """All items of a Dataset, each once: what it draws by chance is drawn once."""
    is_stream = isinstance(data, IterableDataset) or not hasattr(data, "__len__")
    items: Any = data if is_stream else (data[index] for index in range(len(data)))  # type: ignore[arg-type]
    images, labels = [], []
    for index, item in enumerate(items):
        image, label = _pair(item, index)
        images.append(image)
        labels.append(label.item() if isinstance(label, Tensor | np.generic) and np.ndim(label) == 0 else label)
    if not images:
        raise DataError("X: the data set is empty")
    names = getattr(data, "classes", None)
    labelled = of_arrays(images, labels)
    is_named = isinstance(names, Sequence) and not isinstance(names, str) and labelled.labels.dtype.kind in "iu"
    return Labelled(
        labelled.images, labelled.labels, tuple(map(str, names)) if is_named and names is not None else None
    )


def _pair(item: Any, index: int) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        keys = [next((key for key in known if key in item), None) for known in (_IMAGE_KEYS, _LABEL_KEYS)]
        if None not in keys:
            return item[keys[0]], item[keys[1]]
    elif isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise DataError(f"X: item {index} of the data set is {type(item).__name__}; it must be (image, label)")


def _stacked(x: Any) -> NDArray[Any]:
    """Images as one array (n, h, w) or (n, h, w, c).

    Raises:
        DataError: not images, or images of several sizes.
    """
    if isinstance(x, np.ndarray | Tensor) or not isinstance(x, Sequence) or not len(x):
        array = _array(x)
        first = None
    else:
        first = x[0]
        if isinstance(first, Image.Image):
            x = _alike(x)
        shapes = [tuple(np.shape(each)) for each in x]
        if len(set(shapes)) > 1:
            index = next(index for index, shape in enumerate(shapes) if shape != shapes[0])
            raise DataError(
                f"X: the images differ in size, image 0 is {shapes[0]} and image {index} is {shapes[index]}; resize "
                "them (a transform of the data set can), or give the path of their folder"
            )
        array = np.stack([_array(each) for each in x])
    if array.ndim not in (3, 4) or array.dtype.kind not in "iuf":
        raise DataError(
            f"X: must be images, (n, h, w), (n, h, w, c) or (n, c, h, w), got {array.dtype} {array.shape}; tables of "
            "numbers are not searched, and flat pixels want X.reshape(n, h, w)"
        )
    if len(array) == 0:
        raise DataError("X: holds no images")
    is_of_torch = isinstance(first if first is not None else x, Tensor) and array.ndim == 4
    layout: Layout = "channels_first" if is_of_torch and array.shape[1] in _OF_TORCH else "auto"
    images = np.moveaxis(channels_first(array, layout, "X"), 1, 3)  # told now what it could not be
    return images[..., 0] if images.shape[3] == 1 else images


def _array(x: Any, where: str = "X") -> NDArray[Any]:
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    try:
        array: NDArray[Any] = np.asarray(x)
        return array
    except (ValueError, TypeError) as error:
        kind = {"X": "images", "y": "labels"}.get(where, "numbers or words")
        raise DataError(f"{where}: is no array of {kind} ({error})") from None


def _alike(images: Sequence[Image.Image]) -> list[NDArray[Any]]:
    """Images of Pillow, all in colour if one is; those of more than 8 bits as they are.

    Raises:
        DataError: some have 8 bits and others more, or some have whole and others floating numbers.
    """
    modes = {image.mode for image in images}
    first = {_depth(image): index for index, image in reversed(list(enumerate(images)))}
    if len(first) > 1:
        each = " and ".join(f"image {index} is of mode {images[index].mode}" for index in sorted(first.values()))
        raise DataError(f"X: the images differ in depth, {each}; convert them, so that a value means the same in all")
    if first.keys() != {"8 bits"}:
        return [np.asarray(image) for image in images]
    mode = "L" if modes <= {*_GREY_MODES} else "RGB"
    return [np.asarray(image.convert(mode)) for image in images]


def _depth(image: Image.Image) -> str:
    return "floating" if image.mode == "F" else "whole" if image.mode.startswith("I") else "8 bits"
