"""Small pictures of what a task shows: from tensors to PNG and JPEG files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SIDE = 96
"""Pixels of an image's longer side, at most, as it is shown."""
_PLAIN = 64
"""Pixels of a picture's longer side up to which it is kept without loss."""
_GAP = 4

Pixels = NDArray[np.uint8]
"""(h, w) or (h, w, 3)."""


def to_pixels(image: Shaped[Tensor, "c h w"], side: int = SIDE) -> Pixels:
    """An image, uint8 or floating in 0..1, as bytes, no larger than `side`; of other than 1 or 3 channels the first."""
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.clamp(0, 1) * 255).round().byte()
    array = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] in (1, 2) else array[:, :, :3])
    picture.thumbnail((side, side))
    return np.array(picture)


def class_colours(mask: UInt8[Tensor, "h w"], palette: Sequence[str], size: tuple[int, int]) -> Pixels:
    """A mask in the colours of its classes, "#rrggbb" each, black where it has none, as large as a picture (h, w)."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = [[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in palette]
    picture = Image.fromarray(mask.cpu().numpy()).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(colours[np.array(picture)], np.uint8)


def blended(image: Pixels, colours: Pixels, share: float = 0.6) -> Pixels:
    """Colours laid over an image; `share` of what is seen is theirs, but nothing where they are black."""
    below = np.asarray(_in_colour(image), float)
    weight = share * (colours.any(axis=2, keepdims=True))
    return np.asarray((1 - weight) * below + weight * colours, np.uint8)


def framed(image: Pixels, colour: str, width: int = 3) -> Pixels:
    """An image with a frame, "#rrggbb", around it."""
    pixels = np.pad(_in_colour(image), ((width, width), (width, width), (0, 0)))
    ink = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        pixels[edge] = ink
    return pixels


def in_a_row(images: Sequence[Pixels]) -> Pixels:
    """Images side by side, a white gap between them."""
    parts, height = [], max(image.shape[0] for image in images)
    for image in images:
        missing = height - image.shape[0]
        parts.append(np.pad(_in_colour(image), ((0, missing), (0, _GAP), (0, 0)), constant_values=255))
    return np.concatenate(parts, axis=1)[:, :-_GAP]


def picture_file(pixels: Pixels) -> bytes:
    """A picture as a file: PNG, or JPEG where that would be large."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    if max(picture.size) <= _PLAIN:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def _in_colour(image: Pixels) -> Pixels:
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def images_in_a_row(images: Shaped[Tensor, "n c h w"], side: int) -> Pixels:
    """The same of tensors."""
    return in_a_row([to_pixels(image, side) for image in torch.unbind(images)])
