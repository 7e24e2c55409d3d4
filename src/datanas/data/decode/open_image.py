"""One encoded image, opened: upright, in 8 bits a channel, whatever its file says of itself beside the pixels."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from datanas.core.errors import DatanasError

Encoded = Path | str | bytes
Trait = Literal["grey", "transparent", "frames", "wide"]
"""What is worth telling of an image: grey, with transparency, one of several frames or pages, more than 8 bits."""

MAX_PIXELS = 178_956_970
"""More are taken for a decompression bomb, as Pillow does by default."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture becomes upright, by the orientation that a camera noted."""
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_WIDE_COLOUR = ("RGB;16", "RGBA;16", "RGBX;16")
_ANIMATED = ("GIF", "TIFF", "WEBP", "PNG")


class BrokenImageError(Exception):
    """A file that holds no image, or a damaged one; the text says why."""


class TooLargeError(BrokenImageError):
    """An image of more pixels than are allowed."""


@dataclass(frozen=True)
class PixelForm:
    """What pixels become, and of how many an image may be.

    Attributes:
        channels: 1 turns colour to grey; 3 turns grey to colour.
        white: the value of images of more than 8 bits that becomes 255; None refuses them.
        white_of_8_bits: the same of other images; None leaves them as they are.
        max_pixels: width times height, at most.
        value_range: (low, high) of each channel of numbers that are no pixels; None of any that are.
    """

    channels: Literal[1, 3] = 3
    white: float | None = None
    white_of_8_bits: float | None = None
    max_pixels: int = MAX_PIXELS
    value_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@contextmanager
def opened(source: Encoded, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An image whose pixels are not decoded yet.

    Raises:
        BrokenImageError: it is none, or whatever a decoder says of a damaged file while it is read in the block.
        TooLargeError: it has more than `max_pixels`.
    """
    try:
        with _bomb_limit(max_pixels), Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > max_pixels:
                raise _too_large(f"{image.width}x{image.height} pixels", max_pixels)
            yield image
    except (BrokenImageError, DatanasError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise BrokenImageError("not an image") from None
    except Image.DecompressionBombError as error:
        raise _too_large(str(error).partition(" exceeds")[0], max_pixels) from None
    except Exception as error:  # each decoder has errors of its own for damaged files
        raise BrokenImageError(f"{type(error).__name__}: {error}") from None


def _too_large(size: str, max_pixels: int) -> TooLargeError:
    return TooLargeError(
        f"{size}, more than the {max_pixels:,} that are allowed; where it is no decompression bomb set "
        "--data.max_pixels N"
    )


class _BombLimit:
    """Pillow's own limit, which is the process's: lifted while images are open that may be larger, then put back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: int | None = None

    def lift(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1

    def put_back(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                Image.MAX_IMAGE_PIXELS = self._before


_LIMIT = _BombLimit()


@contextmanager
def _bomb_limit(max_pixels: int) -> Iterator[None]:
    if max_pixels <= MAX_PIXELS:
        yield
        return
    _LIMIT.lift()
    try:
        yield
    finally:
        _LIMIT.put_back()


def orientation(image: Image.Image) -> int:
    """The turn 1..8 that a camera noted; 1 where it noted none, or nonsense."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a photograph is sound whatever is written beside its pixels
        return 1
    return turn if isinstance(turn, int) and turn in _TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """The decoded image turned as its camera noted, without asking for anything else that is written beside it."""
    image.load()
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def plain_image(image: Image.Image, source: Encoded, form: PixelForm) -> tuple[Image.Image, frozenset[Trait]]:
    """An opened image in 8 bits a channel, upright, grey or colour, and what is worth telling of it.

    Raises:
        BrokenImageError: it has more than 8 bits and `form` does not say what is white.
    """
    traits: set[Trait] = set()
    raw, file = _raw_mode(image), image
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16") or raw == "LA;16B":
        traits.add("grey")
    values = wide_values(image, source)
    if values is not None:
        if form.white is None:
            raise BrokenImageError("more than 8 bits a pixel; say what is white with --data.white_level N")
        if not np.isfinite(values).all():
            raise BrokenImageError("values that are not finite")
        turn = _TURNS.get(orientation(image))
        image = Image.fromarray(to_bytes(values, form.white))
        image = image if turn is None else image.transpose(turn)
        traits.add("wide")
    else:
        image = upright(image).convert("L" if form.channels == 1 else "RGB")
        if form.white_of_8_bits is not None:
            image = Image.fromarray(to_bytes(np.asarray(image), form.white_of_8_bits))
    if raw != "LA;16B" and _is_transparent(file):
        traits.add("transparent")
    plain = image.convert("L" if form.channels == 1 else "RGB")
    if file.format in _ANIMATED and _has_frames(file):  # at last: asking for a second frame leaves the first
        traits.add("frames")
    return plain, frozenset(traits)


def to_bytes(values: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Values from black at 0 to `white` as 0..255, those beyond as 255.

    Of whole numbers below a power of two the upper eight bits are kept: 4,095 at white 4,095 is 255, and so is 4,080.
    """
    if values.dtype.kind == "f" or white < 255:
        return np.asarray((values * (255 / white)).round().clip(0, 255), np.uint8)
    return np.asarray((values.astype(np.int64) * 256 // int(white + 1)).clip(0, 255), np.uint8)


def wide_values(image: Image.Image, source: Encoded) -> NDArray[Any] | None:
    """The values of an image of more than 8 bits a channel, (h, w) or (h, w, 3); None of any other.

    Args:
        source: where the image was opened from; of colour Pillow reads the upper byte alone, and the lower one from it.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    raw = _raw_mode(image)
    if raw == "LA;16B":
        _set_raw_mode(image, "RGBA")  # the four bytes of grey and transparency, upper ones first
        pixels: NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
        return (pixels[..., 0] << 8) | pixels[..., 1]
    if not raw.startswith(_WIDE_COLOUR):
        return None
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as other:
        raw = _raw_mode(other)
        _set_raw_mode(other, raw[:-1] + _OTHER_ORDER[raw[-1]])
        lower: NDArray[Any] = np.asarray(other)[..., :3]
        joined: NDArray[np.uint16] = (upper << 8) | lower
        return joined


def is_wide(image: Image.Image) -> bool:
    """Whether an image that is not decoded yet has more than 8 bits a channel."""
    raw = _raw_mode(image)
    is_grey = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return is_grey or raw == "LA;16B" or raw.startswith(_WIDE_COLOUR)


def _raw_mode(image: Image.Image) -> str:
    """How pixels stand in the file, in Pillow's words: "RGB;16B"; empty where that is not known."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else None
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else ""


def _set_raw_mode(image: Image.Image, raw: str) -> None:
    """Let the decoder, which has not run yet, take pixels to stand in the file like this."""
    opened_file: Any = image
    opened_file.tile = [
        type(tile)(*tile[:3], (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw)
        if hasattr(tile, "_fields")
        else (*tile[:3], (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw)
        for tile in opened_file.tile
    ]


def _is_transparent(image: Image.Image) -> bool:
    """Whether some pixel is not opaque."""
    if image.mode in ("RGBA", "LA", "PA"):
        alpha = image.getchannel("A")
    elif "transparency" in image.info and image.mode in ("P", "L", "RGB", "1"):
        alpha = image.convert("RGBA").getchannel("A")
    else:
        return False
    return int(np.asarray(alpha).min()) < 255


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the first frame is sound, and no other is read
        return False
