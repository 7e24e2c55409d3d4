"""Image files into one tensor: many threads, and a fault that names its file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from datanas.data.memory import require_memory
from datanas.errors import DataError

_log = logging.getLogger(__name__)
_LISTED = 20


def decode(
    files: Sequence[Path], where: str, *, channels: Literal[1, 3], resize: int | None, skip_broken: bool
) -> tuple[UInt8[Tensor, "n c h w"], list[int]]:
    """Read image files.

    A camera's rotation mark is obeyed; transparency is dropped; 16-bit grey keeps its upper byte.

    Args:
        where: the data set and its source, to begin a message with.
        channels: 1 turns colour to grey; 3 turns grey to colour, with a warning that counts such files.
        resize: scale the shorter side to this and cut the centre square; None wants files of one size.
        skip_broken: leave broken files out, with a warning that lists them.

    Returns:
        The images, and for each the place of its file in `files`.

    Raises:
        DataError: a broken file, sizes that differ, or nothing readable.
        OutOfMemoryError: the images will not fit.
    """
    first, shape = _first_shape(files, where, channels, resize, skip_broken)
    require_memory(len(files) * int(np.prod(shape)), f"{where}: {len(files)} images", "use a smaller --data.resize N")
    images = np.empty((len(files), *shape), np.uint8)

    def place(index: int) -> bool | str:
        try:
            pixels, is_grey = _read(files[index], channels, resize)
        except _BrokenImageError as error:
            return str(error)
        if pixels.shape != shape:
            raise DataError(
                f"{where}: sizes differ: {first} is {_size(shape)}, {files[index]} is {_size(pixels.shape)}; "
                "choose one with --data.resize N"
            )
        images[index] = pixels
        return is_grey

    kept, grey, broken = [], [], []
    with ThreadPoolExecutor() as pool:
        try:
            for index, outcome in enumerate(pool.map(place, range(len(files)))):
                if isinstance(outcome, str):
                    if not skip_broken:
                        raise _broken(where, files[index], outcome)
                    broken.append(files[index])
                else:
                    kept.append(index)
                    if outcome:
                        grey.append(files[index])
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    if broken:
        names = ", ".join(map(str, broken[:_LISTED])) + (" ..." if len(broken) > _LISTED else "")
        _log.warning("%s: skipped %d broken of %d images: %s", where, len(broken), len(files), names)
        images = images[kept]
    if grey and channels == 3:
        _log.warning(
            "%s: turned %d grey of %d images to colour, the first is %s", where, len(grey), len(files), grey[0]
        )
    return torch.from_numpy(images), kept


class _BrokenImageError(Exception):
    pass


def _first_shape(
    files: Sequence[Path], where: str, channels: Literal[1, 3], resize: int | None, skip_broken: bool
) -> tuple[Path, tuple[int, ...]]:
    for file in files:
        try:
            return file, _read(file, channels, resize)[0].shape
        except _BrokenImageError as error:
            if not skip_broken:
                raise _broken(where, file, str(error)) from None
    raise DataError(f"{where}: none of {len(files)} image files can be read")


def _broken(where: str, file: Path, reason: str) -> DataError:
    return DataError(f"{where}: {file} is broken ({reason}); mend it, remove it or set --data.skip_broken true")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def _read(file: Path, channels: Literal[1, 3], resize: int | None) -> tuple[NDArray[np.uint8], bool]:
    """The pixels (c, h, w) of one file, and whether it was grey."""
    try:
        with Image.open(file) as image:
            is_grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
            if resize is not None:
                image.draft(None, (2 * resize, 2 * resize))
            pixels = _convert(ImageOps.exif_transpose(image), channels)
            if resize is not None:
                pixels = ImageOps.fit(pixels, (resize, resize), Image.Resampling.BILINEAR)
            array: NDArray[Any] = np.asarray(pixels)
    except UnidentifiedImageError:
        raise _BrokenImageError("not an image") from None
    except Exception as error:  # each decoder has errors of its own for damaged files
        raise _BrokenImageError(f"{type(error).__name__}: {error}") from None
    return array[None] if channels == 1 else array.transpose(2, 0, 1), is_grey


def _convert(image: Image.Image, channels: Literal[1, 3]) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of the mode {image.mode!r} have no fixed range")
    return image.convert("L" if channels == 1 else "RGB")
