"""Whatever people have of images, found and named: paths, folders, files of arrays, PIL images, arrays, tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.paths import is_file, is_folder, path_errors, shown
from datanas.data.decode.archive import Archive, find_arrays
from datanas.data.decode.image_list import SUFFIXES, ImageList

Frame = NDArray[Any]
"""One image: (h, w) or (h, w, c)."""
Inputs = str | Path | Image.Image | NDArray[Any] | Tensor | Iterable[Any]
_CHANNELS = (1, 2, 3, 4)


class Picture(NamedTuple):
    """An image that is not read yet, and what it is called."""

    name: str
    source: Path | Image.Image | Frame


def find_pictures(inputs: Inputs, channels: int) -> list[Picture]:
    """The images of what was given, in its order; those below a folder in the order of their paths.

    Args:
        channels: that the network takes, by which an array (3, h, w) is told from three grey images.

    Raises:
        DataError: there is none, or something is no image.
    """
    if isinstance(inputs, Tensor) and _is_batch(inputs, channels):
        inputs = inputs[:, None] if inputs.ndim == 3 else inputs.permute(0, 3, 1, 2)
    given = [inputs] if isinstance(inputs, str | Path | Image.Image | np.ndarray | Tensor) else inputs
    if not isinstance(given, Iterable):
        raise DataError(_unknown(inputs))
    pictures: list[Picture] = []
    for each in given:
        pictures += _pictures(each, channels, len(pictures))
    if not pictures:
        raise DataError("no images were given; give image files, folders of them, PIL images, arrays or tensors")
    return pictures


def _is_batch(tensor: Tensor, channels: int) -> bool:
    """Whether these are images (n, h, w) for a network of grey ones, or (n, h, w, c), as a fit takes them."""
    known = (*_CHANNELS, channels)
    if tensor.ndim == 3:
        return channels == 1 != tensor.shape[0] and tensor.shape[2] not in known
    return tensor.ndim == 4 and tensor.shape[1] not in known and tensor.shape[3] in known


def _pictures(given: Any, channels: int, start: int) -> list[Picture]:
    if isinstance(given, str | Path):
        return _from_path(Path(given), channels)
    if isinstance(given, Image.Image):
        return [Picture(f"image {start}", given)]
    if isinstance(given, Tensor):
        array = given.detach().cpu().float() if given.is_floating_point() else given.detach().cpu()
        frames = list(_channels_last(array.numpy(), channels, f"tensor at {start}"))
    elif isinstance(given, np.ndarray):
        frames = list(_frames(given, channels, f"array at {start}"))
    else:
        raise DataError(_unknown(given))
    return [Picture(f"image {start + count}", frame) for count, frame in enumerate(frames)]


def _unknown(given: object) -> str:
    return (
        f"{type(given).__name__} is nothing to predict from; give image files, folders, PIL images, arrays or tensors"
    )


def _from_path(path: Path, channels: int) -> list[Picture]:
    if is_folder(path, DataError):
        images = ImageList(shown(path))
        files = images.below(path)
        images.tell()
        if not files:
            raise DataError(f"{shown(path)}: holds no images ({', '.join(sorted(SUFFIXES))})")
        return [Picture(str(file), file) for file in files]
    if not is_file(path, DataError):
        raise DataError(f"{shown(path)}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        return [Picture(str(path), path)]
    array = _read_npy(path) if suffix == ".npy" else _read_npz(path)
    frames = _frames(array, channels, shown(path))
    return [Picture(f"{path}[{index}]", frame) for index, frame in enumerate(frames)]


def _read_npy(path: Path) -> NDArray[Any]:
    with path_errors(path, DataError):
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{shown(path)}: no array that can be read ({error})") from None
    return array


def _read_npz(path: Path) -> NDArray[Any]:
    """The images of an archive: those to test on where it is one of training and test images."""
    where = shown(path)
    archive = Archive(path, where)
    arrays = find_arrays(archive.names, where)
    for part in ("whole", "test", "validation"):
        if part in arrays:
            return archive[arrays[part].images]
    if len(archive.names) == 1:
        return archive[archive.names[0]]
    known = ", ".join(archive.names) or "no arrays"
    raise DataError(f"{where}: holds {known}; which are the images? call them x, or give one array alone (.npy)")


def _frames(array: NDArray[Any], channels: int, where: str) -> Iterator[Frame]:
    """The images of (h, w), (h, w, c), (n, h, w), (n, h, w, c), or of a colour image with its channels first."""
    known = (*_CHANNELS, channels)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in known):
        array = array[None]
    elif (array.ndim == 3 and array.shape[0] == channels > 1) or (array.ndim == 4 and array.shape[3] not in known):
        yield from _channels_last(array, channels, where)
        return
    elif array.ndim not in (3, 4):
        raise DataError(_shape(array, where, "(h, w), (h, w, c), (n, h, w) or (n, h, w, c)", channels))
    _require_some(array, where)
    yield from array


def _channels_last(array: NDArray[Any], channels: int, where: str) -> Iterator[Frame]:
    """The images of (h, w), (c, h, w) or (n, c, h, w)."""
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[1] not in (*_CHANNELS, channels):
        raise DataError(_shape(array, where, "(c, h, w) or (n, c, h, w), or of an array the channels last,", channels))
    _require_some(array, where)
    yield from np.moveaxis(array, 1, 3)


def _shape(array: NDArray[Any], where: str, wanted: str, channels: int) -> str:
    count = "1 to 4" if channels in _CHANNELS else str(channels)
    return f"{where}: images must have the shape {wanted} with {count} channels, got {array.shape}"


def _require_some(array: NDArray[Any], where: str) -> None:
    if array.size == 0:
        raise DataError(f"{where}: holds no images, its shape is {array.shape}")


def names_of(pictures: Sequence[Picture], some: int = 3) -> str:
    """The names of some pictures, for people."""
    return ", ".join(each.name for each in pictures[:some]) + (" ..." if len(pictures) > some else "")
