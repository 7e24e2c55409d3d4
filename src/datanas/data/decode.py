"""Image files into one tensor: many threads, and a fault that names its file."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from datanas.data.crops import View, centre_square
from datanas.data.memory import require_memory
from datanas.errors import DataError

_log = logging.getLogger(__name__)
_LISTED = 20
_TURNED = frozenset({5, 6, 7, 8})  # the orientations of EXIF whose width is the height of what is stored


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
    view = None if resize is None else View(resize, centre_square)
    first, shape = _first_shape(files, where, channels, view, skip_broken)
    require_memory(len(files) * int(np.prod(shape)), f"{where}: {len(files)} images", "use a smaller --data.resize N")
    images = np.empty((len(files), *shape), np.uint8)

    def place(index: int) -> bool | str:
        try:
            pixels, is_grey = read_image(files[index], channels, view)
        except BrokenImageError as error:
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


class BrokenImageError(Exception):
    """A file that holds no image, or a damaged one; the text says why."""


def _first_shape(
    files: Sequence[Path], where: str, channels: Literal[1, 3], view: View | None, skip_broken: bool
) -> tuple[Path, tuple[int, ...]]:
    for file in files:
        try:
            return file, read_image(file, channels, view)[0].shape
        except BrokenImageError as error:
            if not skip_broken:
                raise _broken(where, file, str(error)) from None
    raise DataError(f"{where}: none of {len(files)} image files can be read")


def _broken(where: str, file: Path, reason: str) -> DataError:
    return DataError(f"{where}: {file} is broken ({reason}); mend it, remove it or set --data.skip_broken true")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def read_image(file: Path | str, channels: Literal[1, 3], view: View | None) -> tuple[NDArray[np.uint8], bool]:
    """The pixels (c, h, w) of one file, and whether it was grey.

    Args:
        view: the part to take; None for the whole image as it is.

    Raises:
        BrokenImageError: it cannot be read.
    """
    try:
        with Image.open(file) as image:
            is_grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
            pixels = _convert(ImageOps.exif_transpose(image), channels) if view is None else _see(image, channels, view)
            array: NDArray[Any] = np.asarray(pixels)
    except UnidentifiedImageError:
        raise BrokenImageError("not an image") from None
    except Exception as error:  # each decoder has errors of its own for damaged files
        raise BrokenImageError(f"{type(error).__name__}: {error}") from None
    return array[None] if channels == 1 else array.transpose(2, 0, 1), is_grey


def _see(image: Image.Image, channels: Literal[1, 3], view: View) -> Image.Image:
    """A view of an opened file. A JPEG is decoded no larger than twice of what the view needs."""
    is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    width, height = reversed(image.size) if is_turned else image.size
    left, top, right, bottom = view.cut(width, height)
    scale = 2 * view.side / min(right - left, bottom - top)
    image.draft(None, (math.ceil(scale * image.width), math.ceil(scale * image.height)))
    pixels = _convert(ImageOps.exif_transpose(image), channels)
    x, y = pixels.width / width, pixels.height / height
    box = left * x, top * y, min(right * x, pixels.width), min(bottom * y, pixels.height)
    return pixels.resize((view.side, view.side), Image.Resampling.BILINEAR, box)


def _convert(image: Image.Image, channels: Literal[1, 3]) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of the mode {image.mode!r} have no fixed range")
    return image.convert("L" if channels == 1 else "RGB")
