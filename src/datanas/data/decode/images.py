"""Image files into one tensor: many threads, and a fault that names its file."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.settings import ComponentConfig
from datanas.data.decode.crops import View, centre_square
from datanas.data.decode.memory import require_memory
from datanas.data.decode.open_image import (
    MAX_PIXELS,
    BrokenImageError,
    Encoded,
    PixelForm,
    TooLargeError,
    Trait,
    opened,
    orientation,
    plain_image,
)

_log = logging.getLogger(__name__)
_LISTED = 20
_TURNED = frozenset({5, 6, 7, 8})  # the orientations of EXIF whose width is the height of what is stored


class PixelConfig(ComponentConfig):
    """What data sets of a user's own image files let be set."""

    white_level: float | None = Field(
        default=None,
        gt=0,
        description="the value that is white; null: 255 of 8 bits, and of more the largest that as many bits hold as "
        "the largest value of all images takes",
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, description="of an image; a larger one is taken for a decompression bomb"
    )

    def form(self, channels: Literal[1, 3]) -> PixelForm:
        """What pixels become by these settings."""
        return PixelForm(channels, self.white_level, self.white_level, self.max_pixels)


def decode(
    files: Sequence[Path], where: str, *, form: PixelForm, resize: int | None, skip_broken: bool
) -> tuple[UInt8[Tensor, "n c h w"], list[int]]:
    """Read image files.

    A camera's rotation mark is obeyed. What else is lost or chosen is told with a count: transparency, the frames after
    the first, and grey that becomes colour.

    Args:
        where: the data set and its source, to begin a message with.
        form: what pixels become; images of more than 8 bits need its white (`settle_white`).
        resize: scale the shorter side to this and cut the centre square; None wants files of one size.
        skip_broken: leave broken files out, with a warning that lists them.

    Returns:
        The images, and for each the place of its file in `files`.

    Raises:
        DataError: a broken file, sizes that differ, or nothing readable.
        OutOfMemoryError: the images will not fit.
    """
    view = None if resize is None else View(resize, centre_square)
    first, shape = _first_shape(files, where, form, view, skip_broken)
    require_memory(len(files) * int(np.prod(shape)), f"{where}: {len(files)} images", "use a smaller --data.resize N")
    images = np.empty((len(files), *shape), np.uint8)

    def decode_image(index: int) -> frozenset[Trait] | BrokenImageError:
        try:
            pixels, traits = read_image(files[index], form, view)
        except BrokenImageError as error:
            return error
        if pixels.shape != shape:
            raise DataError(
                f"{where}: sizes differ: {first} is {_size(shape)}, {files[index]} is {_size(pixels.shape)}; "
                "choose one with --data.resize N"
            )
        images[index] = pixels
        return traits

    indices, broken = [], []
    told: dict[Trait, list[object]] = defaultdict(list)
    with ThreadPoolExecutor() as pool:
        try:
            for index, outcome in enumerate(pool.map(decode_image, range(len(files)))):
                if isinstance(outcome, BrokenImageError):
                    if not skip_broken:
                        raise broken_file(where, files[index], outcome)
                    broken.append(files[index])
                else:
                    indices.append(index)
                    for trait in outcome:
                        told[trait].append(files[index])
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    if broken:
        names = ", ".join(map(str, broken[:_LISTED])) + (" ..." if len(broken) > _LISTED else "")
        _log.warning("%s: skipped %d broken of %d images: %s", where, len(broken), len(files), names)
        images = images[indices]
    tell_traits(told, len(files), where, form)
    return torch.from_numpy(images), indices


def tell_traits(images_of: Mapping[Trait, Sequence[object]], count: int, where: str, form: PixelForm) -> None:
    """Say how many of `count` images lost something or were changed; `images_of` names the images of each trait."""
    if grey := images_of.get("grey") if form.channels == 3 else None:
        _log.warning("%s: turned %d grey of %d images to colour, the first is %s", where, len(grey), count, grey[0])
    if clear := images_of.get("transparent"):
        _log.warning(
            "%s: dropped the transparency of %d of %d images, the first is %s; what was hidden behind it is seen",
            *(where, len(clear), count, clear[0]),
        )
    if several := images_of.get("frames"):
        _log.warning(
            "%s: took the first of several frames or pages of %d of %d images, the first is %s",
            *(where, len(several), count, several[0]),
        )


def _first_shape(
    files: Sequence[Path], where: str, form: PixelForm, view: View | None, skip_broken: bool
) -> tuple[Path, tuple[int, ...]]:
    for file in files:
        try:
            return file, read_image(file, form, view)[0].shape
        except BrokenImageError as error:
            if not skip_broken:
                raise broken_file(where, file, error) from None
    raise DataError(f"{where}: none of {len(files)} image files can be read")


def broken_file(where: str, file: Path, error: BrokenImageError) -> DataError:
    """What to say of a file that cannot be read."""
    if isinstance(error, TooLargeError):
        return DataError(f"{where}: {file} has {error}")
    return DataError(f"{where}: {file} is broken ({error}); mend it, remove it or set --data.skip_broken true")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def read_image(source: Encoded, form: PixelForm, view: View | None) -> tuple[NDArray[np.uint8], frozenset[Trait]]:
    """The pixels (c, h, w) of one file, and what is worth telling of it.

    Args:
        view: the part to take; None for the whole image as it is.

    Raises:
        BrokenImageError: it cannot be read.
    """
    with opened(source, form.max_pixels) as image:
        return pixels_of(image, source, form, view)


def pixels_of(
    image: Image.Image, source: Encoded, form: PixelForm, view: View | None
) -> tuple[NDArray[np.uint8], frozenset[Trait]]:
    """The same of an image that is open, or was never in a file.

    Raises:
        BrokenImageError: it has more than 8 bits and `form` does not say what is white.
    """
    if view is None:
        pixels, traits = plain_image(image, source, form)
    else:
        pixels, traits = _see(image, source, form, view)
    array: NDArray[Any] = np.asarray(pixels)
    return array[None] if form.channels == 1 else array.transpose(2, 0, 1), traits


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image once it is turned as its camera noted."""
    width, height = image.size
    return (height, width) if orientation(image) in _TURNED else (width, height)


def _see(image: Image.Image, source: Encoded, form: PixelForm, view: View) -> tuple[Image.Image, frozenset[Trait]]:
    """A view of an opened file. A JPEG is decoded no larger than twice of what the view needs."""
    width, height = upright_size(image)
    left, top, right, bottom = view.cut(width, height)
    scale = 2 * max(view.size[0] / (right - left), view.size[1] / (bottom - top))
    image.draft(None, (math.ceil(scale * image.width), math.ceil(scale * image.height)))
    pixels, traits = plain_image(image, source, form)
    x, y = pixels.width / width, pixels.height / height
    box = left * x, top * y, min(right * x, pixels.width), min(bottom * y, pixels.height)
    return pixels.resize(view.size, Image.Resampling.BILINEAR, box), traits
