"""Arrays of images as people store them: where their channels stand, and what range their numbers have."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.decode.depth import told_white
from datanas.data.decode.memory import require_memory
from datanas.data.decode.open_image import to_bytes

Layout = Literal["auto", "channels_last", "channels_first"]
MOST_CHANNELS = 32
"""More are taken for the slices of a volume, unless somebody says where the channels stand."""
_PICTURES = (1, 3)
_CHUNK = 2**24
"""Bytes of images that are converted at a time, which needs several times as many."""
_log = logging.getLogger(__name__)


class ValueRange(NamedTuple):
    """What becomes 0 and what becomes 1, of each channel."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_unit(self, values: NDArray[Any], axis: int) -> NDArray[np.float32]:
        """(values - low) / (high - low), with the channels at `axis`."""
        shape = [-1 if dimension == axis % values.ndim else 1 for dimension in range(values.ndim)]
        low, high = (np.array(each, np.float64).reshape(shape) for each in self)
        return ((values - low) / (high - low)).astype(np.float32)


class Values(NamedTuple):
    """How the numbers of arrays become pixels; as they are where both are None.

    Attributes:
        white: the number that becomes white.
        range: those that become 0 and 1, where there is no white.
    """

    white: float | None = None
    range: ValueRange | None = None


def channels_first(array: NDArray[Any], layout: Layout, where: str) -> NDArray[Any]:
    """A view (n, c, h, w) of images (n, h, w), (n, h, w, c) or (n, c, h, w).

    One or three channels are looked for first, at the last axis before the second; others stand at the axis that is
    shorter than height and width.

    Raises:
        DataError: another number of axes, or no axis that can be that of the channels; the message has the way out.
    """
    shape = array.shape
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 2:
        raise DataError(
            f"{where} has the shape {shape}: tables of numbers are not searched; flat pixels want reshape(n, h, w), "
            "and of a series in time a spectrogram is an image (scipy.signal.spectrogram: n, frequencies, times)"
        )
    if array.ndim != 4:
        volumes = ": volumes and films are not searched; give their slices as images" if array.ndim == 5 else ""
        raise DataError(f"{where} must have the shape (n, h, w), (n, h, w, c) or (n, c, h, w), got {shape}{volumes}")
    if layout != "auto":
        return np.moveaxis(array, {"channels_last": 3, "channels_first": 1}[layout], 1)
    possible = [axis for axis in (3, 1) if shape[axis] in _PICTURES]
    if not possible:
        shorter = {3: min(shape[1:3]), 1: min(shape[2:])}
        possible = [axis for axis, side in shorter.items() if shape[axis] < side and shape[axis] <= MOST_CHANNELS]
    if not possible:
        raise DataError(
            f"{where} has the shape {shape}, of which no axis can be told to be the channels; say it with "
            "--data.layout channels_last or channels_first; of volumes give the slices as images"
        )
    if len(possible) > 1:
        _log.warning(
            "%s has the shape %s; the last axis is taken for the channels, and data.layout says otherwise",
            *(where, shape),
        )
    return np.moveaxis(array, possible[0], 1)


def values_of(
    arrays: Sequence[NDArray[Any]], where: str, training: Sequence[NDArray[np.bool_]] | None = None
) -> Values:
    """How the numbers of all images (n, c, h, w) of a data set become pixels; what was chosen is told.

    Whole numbers from 0 of more than 8 bits, in one or three channels, have a white. Floating numbers in 0..1 are taken
    as they are, and whole ones up to 255 as bytes. All others have a range: the least and largest of each channel of
    the images for training.

    Args:
        where: the data set and its file, to begin a message with.
        training: of each array which of its images are for training, at least one of all; None for all.
    """
    training = [np.ones(len(array), bool) for array in arrays] if training is None else training
    training = [chosen for chosen, array in zip(training, arrays, strict=True) if array.size]
    arrays = [array for array in arrays if array.size]
    if not arrays or len({array.shape[1] for array in arrays}) > 1:
        return Values()  # told as a fault of its own
    is_whole = all(array.dtype.kind in "iu" and array.dtype != np.uint8 for array in arrays)
    if not is_whole and not all(array.dtype.kind == "f" for array in arrays):
        return Values()
    channels = arrays[0].shape[1]
    least = np.concatenate([array.min(axis=(2, 3)) for array in arrays]).astype(np.float64)
    largest = np.concatenate([array.max(axis=(2, 3)) for array in arrays]).astype(np.float64)
    low, high = least.min(axis=0), largest.max(axis=0)
    if is_whole and low.min() >= 0 and (channels in _PICTURES or high.max() <= 255):
        return Values(white=told_white(float(high.max()), where))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return Values()
    if not is_whole and low.min() >= 0 and high.max() <= 1:
        return Values()
    if (
        not is_whole
        and low.min() >= 0
        and high.max() <= 255
        and all((part == np.rint(part)).all() for array in arrays for part in chunks(array))
    ):
        _log.warning(
            "%s: floating images hold whole numbers up to %g; 0..255 is taken for black to white", where, high.max()
        )
        return Values(white=255.0)
    _log.warning(
        "%s: numbers from %g to %g are no pixels in 0..1; each channel is brought there by its least and largest one "
        "(--data.white_level N takes 0..N)",
        *(where, low.min(), high.max()),
    )
    chosen = np.concatenate(training)
    chosen = chosen if chosen.any() else ~chosen
    low, high = least[chosen].min(axis=0), largest[chosen].max(axis=0)
    return Values(range=ValueRange(tuple(low.tolist()), tuple(np.where(high > low, high, low + 1).tolist())))


def to_pixels(array: NDArray[Any], values: Values, where: str) -> Tensor:
    """Images (n, c, h, w) as uint8 in 0..255 or float32 in 0..1.

    Raises:
        DataError: numbers of another type than uint8 or floating for which nothing is said.
        OutOfMemoryError: the pixels will not fit beside the numbers.
    """
    white, has_range = values.white, values.range is not None
    is_whole = array.dtype.kind in "iu"
    is_known = array.dtype in (np.uint8, np.float16, np.float32, np.float64)
    if not is_known and not (is_whole and (white is not None or has_range)):
        raise DataError(f"{where} must be uint8 in 0..255 or floating in 0..1, got {array.dtype}")

    def converted(part: NDArray[Any]) -> NDArray[Any]:
        if values.range is not None:
            return values.range.to_unit(part, 1).clip(0, 1)  # other images than those for training may lie beyond
        if white is not None:
            return to_bytes(part, white) if is_whole else part.astype(np.float32) / np.float32(white)
        return part

    wanted = np.uint8 if is_whole and not has_range else np.float32
    if white is None and not has_range and array.dtype == wanted and array.flags.c_contiguous:
        return torch.from_numpy(array)
    require_memory(array.size * np.dtype(wanted).itemsize, f"{where}: the pixels", "store fewer or smaller images")
    pixels = np.empty(array.shape, wanted)
    for part, into in zip(chunks(array), chunks(pixels, array), strict=True):
        into[...] = converted(part)
    return torch.from_numpy(pixels)


def chunks(array: NDArray[Any], like: NDArray[Any] | None = None) -> Iterator[NDArray[Any]]:
    """Views of some images (n, ...) at a time, as many as of `like` take `_CHUNK` bytes at most."""
    known = array if like is None else like
    step = max(1, _CHUNK // max(1, known[:1].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def to_images(array: NDArray[Any], layout: Layout, where: str) -> Tensor:
    """Bring an array of images, uint8 in 0..255 or floating in 0..1, into the form (n, c, h, w), uint8 or float32.

    Raises:
        DataError: another type of number, number of axes or channels.
    """
    return to_pixels(channels_first(array, layout, where), Values(), where)
