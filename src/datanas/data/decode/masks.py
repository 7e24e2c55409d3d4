"""Pairs of an encoded image and its encoded mask into memory: many threads, and a fault that names its file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.decode.images import read_image, tell_traits
from datanas.data.decode.memory import require_memory
from datanas.data.decode.open_image import BrokenImageError, PixelForm, TooLargeError, Trait, opened, upright
from datanas.data.types.masks import VOID, SegmentationSet

Encoded = Path | bytes
MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Of Pillow: one number a pixel. The number of a palette's colour is the class, not the colour."""
LOSSY = ("JPEG", "MPO")
LOSSY_INSIDE = ("jpeg", "tiff_jpeg", "webp")
"""Compressions of TIFF, as Pillow calls them."""

Colours = dict[int, tuple[int, ...]]
"""The colours that a palette gives to the numbers which a mask uses."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as files, or as bytes in one of the usual formats; a mask may also lie open."""

    name: str
    image: Encoded
    mask: Encoded | NDArray[Any]

    @property
    def mask_name(self) -> str:
        """The mask's own name where it is a file, otherwise that of the image."""
        return self.mask.name if isinstance(self.mask, Path) else self.name

    @property
    def shown(self) -> str:
        """The mask, and the image where it is called otherwise."""
        return self.name if self.mask_name == self.name else f"{self.mask_name} (of image {self.name})"


class Palette:
    """The colours that the masks of a data set give to numbers: the same to the same, or the numbers alone mislead.

    Args:
        may_differ: let masks give other colours; only the number counts then.
    """

    def __init__(self, *, may_differ: bool = False) -> None:
        self._may_differ = may_differ
        self._colour_of: dict[int, tuple[tuple[int, ...], Pair]] = {}
        self._number_of: dict[tuple[int, ...], tuple[int, Pair]] = {}

    def add(self, pair: Pair, colours: Colours, where: str) -> None:
        """Take the colours of a mask.

        Raises:
            DataError: another mask gives one of its numbers another colour, or one of its colours to another number.
        """
        if self._may_differ:
            return
        for number, colour in colours.items():
            known, first = self._colour_of.setdefault(number, (colour, pair))
            other, owner = self._number_of.setdefault(colour, (number, pair))
            if known != colour:
                fault = f"{number} is the colour {known} in mask {first.shown} and {colour} in {pair.shown}"
            elif other != number and owner is not pair:
                fault = f"the colour {colour} is {other} in mask {owner.shown} and {number} in {pair.shown}"
            else:
                continue
            raise DataError(
                f"{where}: palettes differ: {fault}; save all masks with one palette, or say that only the numbers "
                "count with --data.palettes_differ true"
            )


class _Read(NamedTuple):
    image: Tensor
    mask: Tensor
    traits: frozenset[Trait]
    colours: Colours


def decode_pairs(
    pairs: Sequence[Pair],
    where: str,
    *,
    void: Sequence[int] = (VOID,),
    values: Sequence[int] | None = None,
    palette: Palette | None = None,
    longest: int | None = None,
    form: PixelForm | None = None,
) -> SegmentationSet:
    """Read images as colour and masks as class numbers.

    Args:
        where: the part of a data set and its source, to begin a message with.
        void: the values of a mask that become VOID.
        values: those of the classes in their order; None where a value is the number of its class.
        palette: the colours of the masks of other parts; None where there are none to agree with.
        longest: reduce images to this length of the longer side, where they are larger, masks without mixing classes.
        form: what pixels become; images of more than 8 bits need its white (`settle_white`).

    Raises:
        DataError: no pairs, a broken file, a mask that is no mask or of another size than its image, or palettes in
            which one number has two colours, or one colour two numbers.
        OutOfMemoryError: the images will not fit.
    """
    if not pairs:
        raise DataError(f"{where} holds no images")
    kind = form or PixelForm()

    def read(pair: Pair) -> _Read:
        return _read(pair, where, void, values, longest, kind)

    first = read(pairs[0])
    size = first.image.numel() + first.mask.numel()
    require_memory(len(pairs) * size, f"{where}: {len(pairs)} images", "reduce them with --data.longest N")
    with ThreadPoolExecutor() as pool:
        try:
            decoded = list(pool.map(read, pairs))
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise
    told: dict[Trait, list[object]] = defaultdict(list)
    for pair, each in zip(pairs, decoded, strict=True):
        for trait in each.traits - {"grey"}:
            told[trait].append(pair.name)
    tell_traits(told, len(pairs), where, kind)
    common = Palette() if palette is None else palette
    for pair, each in zip(pairs, decoded, strict=True):
        common.add(pair, each.colours, where)
    return SegmentationSet(
        tuple(each.image for each in decoded),
        tuple(each.mask for each in decoded),
        tuple(pair.name for pair in pairs),
        tuple(pair.mask_name for pair in pairs),
    )


def reduced_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of an image whose longer side becomes `longest`, 1 pixel at least."""
    width, height = (max(1, round(side * longest / max(size))) for side in size)
    return width, height


def _read(
    pair: Pair, where: str, void: Sequence[int], values: Sequence[int] | None, longest: int | None, form: PixelForm
) -> _Read:
    try:
        pixels, traits = read_image(pair.image, form, None)
    except BrokenImageError as error:
        raise _unusable(f"{where} image {pair.name}", pair.image, error) from None
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    try:
        stored, colours = _mask_values(pair.mask, f"{where} mask {pair.shown}")
    except BrokenImageError as error:
        called = pair.name if _is_missing(pair.mask) else pair.shown
        raise _unusable(f"{where} mask {called}", pair.mask, error) from None
    numbers = _class_numbers(stored, void, values, f"{where} mask {pair.shown}")
    if image.size != (numbers.shape[1], numbers.shape[0]):
        called = "" if pair.mask_name == pair.name else f" ({pair.mask_name})"
        raise DataError(
            f"{where} image {pair.name} is {image.width}x{image.height}, its mask {numbers.shape[1]}x"
            f"{numbers.shape[0]}{called}; a mask must be as large as its image"
        )
    mask = Image.fromarray(numbers)
    if longest is not None and max(image.size) > longest:
        image = image.resize(reduced_size(image.size, longest), Image.Resampling.BILINEAR)
        mask = mask.resize(image.size, Image.Resampling.NEAREST)
    upright_pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())
    return _Read(upright_pixels, torch.from_numpy(np.array(mask)), traits, colours)


def _class_numbers(
    stored: NDArray[Any], void: Sequence[int], values: Sequence[int] | None, where: str
) -> NDArray[np.uint8]:
    """The number of a class, or VOID, for every value that was found in a mask."""
    if values is None:
        numbers = np.where(np.isin(stored, void), VOID, stored)
        if numbers.min() < 0 or numbers.max() > VOID:
            wrong = int(numbers[(numbers < 0) | (numbers > VOID)][0])
            raise DataError(f"{where} has the value {wrong}; a class number or void lies in 0..{VOID}")
        return numbers.astype(np.uint8)
    numbers = np.full(stored.shape, VOID, np.uint8)
    is_known = np.isin(stored, void)
    for number, value in enumerate(values):
        numbers[stored == value] = number
        is_known |= stored == value
    if not is_known.all():
        raise DataError(
            f"{where} has the value {int(stored[~is_known][0])}, which is none of data.values "
            f"({', '.join(map(str, values))}) and not void"
        )
    return numbers.astype(np.uint8)


def _mask_values(mask: Encoded | NDArray[Any], where: str) -> tuple[NDArray[Any], Colours]:
    """One whole number a pixel, and the colours that a palette gives to them."""
    if isinstance(mask, np.ndarray):
        return mask, {}
    with opened(mask) as image:
        if image.format in LOSSY or image.info.get("compression") in LOSSY_INSIDE:
            raise DataError(
                f"{where} is a JPEG, or compressed like one, which changes class numbers at every border; "
                "save masks as PNG"
            )
        if image.mode not in MASK_MODES:
            raise DataError(
                f"{where} is a picture of the mode {image.mode!r}; a mask has one class number a pixel (PNG, grey or "
                "with a palette)"
            )
        turned = upright(image)
        values = np.asarray(turned).astype(np.int64)
        return values, _colours(turned, values)


def _colours(mask: Image.Image, values: NDArray[Any]) -> Colours:
    palette = mask.getpalette("RGB") if mask.mode == "P" else None
    if not palette:
        return {}
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    return {value: tuple(palette[3 * value : 3 * value + 3]) for value in used if 3 * value + 3 <= len(palette)}


def _unusable(where: str, source: Encoded | NDArray[Any], error: BrokenImageError) -> DataError:
    if _is_missing(source):
        return DataError(f"{where} is missing: no such file: {source!s}")
    if isinstance(error, TooLargeError):
        return DataError(f"{where} has {error}")
    return DataError(f"{where} is broken ({error})")


def _is_missing(source: Encoded | NDArray[Any]) -> bool:
    return isinstance(source, Path) and not source.exists()
