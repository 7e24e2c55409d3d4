"""One image whatever its file says of itself."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas.data.decode.images import read_image
from datanas.data.decode.open_image import MAX_PIXELS, BrokenImageError, PixelForm, TooLargeError, opened, to_bytes

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8)
ORIENTATION = 274


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **settings: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **settings)
    return file.getvalue()


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (h, w, c), which Pillow does not write in colour (ISO/IEC 15948, Section 11.2)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_values_of_12_bits_in_a_png_of_16_keep_their_upper_8(channels: int) -> None:
    values = RANDOM.integers(0, 4096, (5, 7, channels))
    wanted = 3 if channels > 2 else 1
    pixels, traits = read_image(deep_png(values), PixelForm(wanted, white=4095), None)  # type: ignore[arg-type]
    assert np.array_equal(pixels, (values[..., :wanted] >> 4).transpose(2, 0, 1))
    assert "wide" in traits


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_grey_of_16_bits_keeps_its_upper_8(kind: str) -> None:
    values = RANDOM.integers(0, 65536, (5, 7), dtype=np.uint16)
    pixels, _ = read_image(encoded(values, kind), PixelForm(1, white=65535), None)
    assert np.array_equal(pixels[0], values >> 8)


def test_more_than_8_bits_need_a_white() -> None:
    with pytest.raises(BrokenImageError, match=r"--data\.white_level"):
        read_image(encoded(np.zeros((4, 6), np.uint16)), PixelForm(), None)


def test_values_that_are_not_finite_are_broken() -> None:
    values = np.full((4, 6), np.nan, np.float32)
    with pytest.raises(BrokenImageError, match="not finite"):
        read_image(encoded(values, "TIFF"), PixelForm(white=1.0), None)


@pytest.mark.parametrize(
    ("values", "white", "expected"),
    [
        ([0, 16, 4095, 5000], 4095, [0, 1, 255, 255]),
        ([0, 255, 256, 65535], 65535, [0, 0, 1, 255]),
        ([0, 128, 255], 255, [0, 128, 255]),
        ([0, 1, 2], 1, [0, 255, 255]),
        ([-0.5, 0.0, 0.5, 1.0], 1.0, [0, 0, 128, 255]),
    ],
)
def test_white_becomes_255(values: list[float], white: float, expected: list[int]) -> None:
    assert to_bytes(np.array(values), white).tolist() == expected


def jpeg(exif: bytes) -> bytes:
    return encoded(COLOUR, "JPEG", exif=exif)


def odd_exif() -> bytes:
    """A rotation mark, and a value that cannot be written back."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x920A] = "nonsense"
    exif[0x8769] = {0x9000: "x" * 5}
    return exif.tobytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", b"Exif\0\0", b"Exif\0\0MM", odd_exif()],
)
def test_a_sound_photograph_is_read_whatever_is_written_beside_it(exif: bytes) -> None:
    pixels, _ = read_image(jpeg(exif), PixelForm(), None)
    plain = read_image(encoded(COLOUR, "JPEG"), PixelForm(), None)[0]
    assert sorted(pixels.flatten()) == sorted(plain.flatten())


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_camera_s_turn_is_undone(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    pixels, _ = read_image(encoded(COLOUR, kind, exif=exif), PixelForm(), None)
    turned = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: COLOUR[::-1].transpose(1, 0, 2),
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2),
        8: COLOUR.transpose(1, 0, 2)[::-1],
    }
    assert np.array_equal(pixels, turned[turn].transpose(2, 0, 1))


def test_transparency_frames_and_grey_are_known() -> None:
    clear = np.dstack([COLOUR, np.full((4, 6), 254, np.uint8)])
    opaque = np.dstack([COLOUR, np.full((4, 6), 255, np.uint8)])
    film = encoded(COLOUR, "GIF", save_all=True, append_images=[Image.fromarray(255 - COLOUR)])
    pages = encoded(COLOUR, "TIFF", save_all=True, append_images=[Image.fromarray(255 - COLOUR)])
    for source, traits in [
        (encoded(clear), {"transparent"}),
        (encoded(opaque), set()),
        (encoded(Image.fromarray(COLOUR).quantize(4), transparency=0), {"transparent"}),
        (film, {"frames"}),
        (pages, {"frames"}),
        (encoded(COLOUR[..., 0]), {"grey"}),
        (encoded(COLOUR), set()),
    ]:
        assert read_image(source, PixelForm(), None)[1] == traits
    assert np.array_equal(read_image(pages, PixelForm(), None)[0], COLOUR.transpose(2, 0, 1))


def test_an_image_of_too_many_pixels_is_told_with_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(encoded(COLOUR))
    with pytest.raises(TooLargeError, match=r"6x4 pixels, more than the 23 that are allowed; .*--data\.max_pixels N"):
        read_image(file, PixelForm(max_pixels=23), None)
    assert read_image(file, PixelForm(max_pixels=24), None)[0].shape == (3, 4, 6)


def test_what_pillow_takes_for_a_bomb_is_read_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(TooLargeError, match=r"--data\.max_pixels N"):
        read_image(encoded(COLOUR), PixelForm(), None)
    with opened(encoded(COLOUR), MAX_PIXELS + 1) as image:
        image.load()
    assert Image.MAX_IMAGE_PIXELS == 5
