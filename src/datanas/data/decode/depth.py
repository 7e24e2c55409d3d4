"""What is white in images of more than 8 bits a channel: known from the whole data set, never from one image alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.decode.open_image import BrokenImageError, Encoded, PixelForm, is_wide, opened, wide_values

_log = logging.getLogger(__name__)
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_OF_PNG = 24


class Extent(NamedTuple):
    """The least and largest value of an image, and whether values are floating."""

    low: float
    high: float
    is_floating: bool


def settle_white(files: Sequence[Encoded], form: PixelForm, where: str) -> PixelForm:
    """The form with what is white in these images, if some have more than 8 bits and it does not say so yet.

    White is the largest value that as many bits hold as the largest value of all images takes, at least 8: sensors
    store 12 bits in 16, and some programs 8. Of floating values it is 1, or that rule where they exceed 1. It is told.

    Args:
        files: all images of the data set, so that they stay comparable.
        where: the data set and its source, to begin a message with.

    Raises:
        DataError: values below 0 or not finite, or whole and floating ones side by side.
    """
    if form.white is not None:
        return form
    with ThreadPoolExecutor() as pool:
        measured = list(pool.map(lambda file: _extent(file, form), files))
    extents = {index: extent for index, extent in enumerate(measured) if extent is not None}
    if not extents:
        return form
    for index, extent in extents.items():
        if not (math.isfinite(extent.low) and math.isfinite(extent.high) and extent.low >= 0):
            fault = "values below 0" if extent.low < 0 else "values that are not finite"
            raise DataError(
                f"{where}: {files[index]!s} holds {fault}, so what is black and white is not known; store it in 8 or "
                "16 bits without a sign, or say what is white with --data.white_level N: what lies below 0 is black"
            )
    kinds = {extent.is_floating for extent in extents.values()}
    if len(kinds) > 1:
        raise DataError(
            f"{where}: some images hold floating values and others whole numbers of more than 8 bits; store them alike"
        )
    white = white_of(max(extent.high for extent in extents.values()), is_floating=kinds.pop())
    _tell(where, f"{len(extents)} of {len(files)} images", max(extent.high for extent in extents.values()), white)
    return replace(form, white=white)


def white_of(largest: float, *, is_floating: bool) -> float:
    """White for this largest value of a data set."""
    if is_floating and largest <= 1:
        return 1.0
    return float(2 ** max(8, math.ceil(math.log2(largest + 1)) if largest > 0 else 8) - 1)


def told_white(largest: float, where: str) -> float:
    """White of whole numbers from 0 by the rule of `settle_white`; it is told.

    Args:
        largest: of all images of the data set.
    """
    white = white_of(largest, is_floating=False)
    _tell(where, "the images", largest, white)
    return white


def _tell(where: str, images: str, largest: float, white: float) -> None:
    bits = "" if white < 255 else f" ({math.ceil(math.log2(white + 1))} bits)"
    _log.warning(
        "%s: %s have more than 8 bits a pixel; their largest value is %s, so 0..%s%s is taken for black to white; "
        "--data.white_level N takes another",
        *(where, images, f"{largest:,g}", f"{white:,.0f}", bits),
    )


def _extent(file: Encoded, form: PixelForm) -> Extent | None:
    """Of the values of one image; None of one of 8 bits, and of a broken one, which is told when it is read."""
    try:
        if not _may_be_wide(file):
            return None
        with opened(file, form.max_pixels) as image:
            values = _values(image, file)
            if values is None:
                return None
            return Extent(float(values.min()), float(values.max()), values.dtype.kind == "f")
    except (OSError, BrokenImageError):
        return None


def _values(image: Image.Image, file: Encoded) -> NDArray[np.generic] | None:
    return wide_values(image, file) if is_wide(image) else None


def _may_be_wide(file: Encoded) -> bool:
    """Told from the first bytes, as opening every image takes much longer: a JPEG never is, a PNG says so."""
    if isinstance(file, bytes):
        beginning = file[: _DEPTH_OF_PNG + 1]
    else:
        with open(file, "rb") as stream:
            beginning = stream.read(_DEPTH_OF_PNG + 1)
    if beginning.startswith(_PNG):
        return len(beginning) > _DEPTH_OF_PNG and beginning[_DEPTH_OF_PNG] == 16
    return beginning[:2] in (b"II", b"MM") or beginning[:1] == b"P"
