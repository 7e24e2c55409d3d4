"""Pairs of an encoded image and its encoded mask into memory: many threads, and a fault that names its file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from datanas.data.masks import VOID, SegmentationSet
from datanas.data.memory import require_memory
from datanas.errors import DataError

Encoded = Path | bytes
MASK_MODES = ("1", "L", "P", "I", "I;16")
"""Of Pillow: one number a pixel. The number of a palette's colour is the class, not the colour."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as files, or as bytes in one of the usual formats; a mask may also lie open."""

    name: str
    image: Encoded
    mask: Encoded | NDArray[Any]


def decode_pairs(
    pairs: Sequence[Pair], where: str, *, void: Sequence[int] = (VOID,), longest: int | None = None
) -> SegmentationSet:
    """Read images as colour and masks as class numbers.

    Args:
        where: the part of a data set and its source, to begin a message with.
        void: the values of a mask that become VOID.
        longest: reduce images to this length of the longer side, where they are larger, masks without mixing classes.

    Raises:
        DataError: no pairs, a broken file, a mask that is no mask or of another size than its image.
        OutOfMemoryError: the images will not fit.
    """
    if not pairs:
        raise DataError(f"{where} holds no images")

    def read(pair: Pair) -> tuple[Tensor, Tensor]:
        return _read(pair, where, void, longest)

    size = sum(tensor.numel() for tensor in read(pairs[0]))
    require_memory(len(pairs) * size, f"{where}: {len(pairs)} images", "reduce them with --data.longest N")
    with ThreadPoolExecutor() as pool:
        try:
            found = list(pool.map(read, pairs))
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    images, masks = zip(*found, strict=True)
    return SegmentationSet(images, masks, tuple(pair.name for pair in pairs))


def _read(pair: Pair, where: str, void: Sequence[int], longest: int | None) -> tuple[Tensor, Tensor]:
    with _open(pair.image, f"{where} image {pair.name}") as opened:
        image = opened.convert("RGB")
    values = _mask_values(pair.mask, f"{where} mask {pair.name}")
    values = np.where(np.isin(values, void), VOID, values)
    if values.min() < 0 or values.max() > VOID:
        wrong = int(values[(values < 0) | (values > VOID)][0])
        raise DataError(f"{where} mask {pair.name} has the value {wrong}; a class number or void lies in 0..{VOID}")
    if image.size != (values.shape[1], values.shape[0]):
        raise DataError(
            f"{where} image {pair.name} is {image.width}x{image.height}, its mask {values.shape[1]}x{values.shape[0]}; "
            "a mask must be as large as its image"
        )
    mask = Image.fromarray(values.astype(np.uint8))
    if longest is not None and max(image.size) > longest:
        width, height = (max(1, round(side * longest / max(image.size))) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        mask = mask.resize((width, height), Image.Resampling.NEAREST)
    pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())
    return pixels, torch.from_numpy(np.array(mask))


def _mask_values(mask: Encoded | NDArray[Any], where: str) -> NDArray[Any]:
    """One whole number a pixel."""
    if isinstance(mask, np.ndarray):
        return mask
    with _open(mask, where) as opened:
        if opened.mode not in MASK_MODES:
            raise DataError(
                f"{where} is a picture of the mode {opened.mode!r}; a mask has one class number a pixel "
                "(PNG, grey or with a palette)"
            )
        return np.asarray(opened).astype(np.int64)


def _open(source: Encoded, where: str) -> Image.Image:
    """The pixels of an encoded image, upright as its camera's rotation mark says.

    Raises:
        DataError: it is broken, after `where`.
    """
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        image.load()
        return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise DataError(f"{where} is missing: no such file: {source!r}") from None
    except UnidentifiedImageError:
        raise DataError(f"{where} is broken (not an image)") from None
    except Exception as error:  # each decoder has errors of its own for damaged files
        raise DataError(f"{where} is broken ({type(error).__name__}: {error})") from None
