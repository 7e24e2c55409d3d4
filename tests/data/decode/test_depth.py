"""What is white is known from all images together."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.decode.depth import settle_white, told_white, white_of
from datanas.data.decode.open_image import PixelForm


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


def of(*largest: float, kind: Any = np.uint16) -> list[bytes]:
    return [tiff(np.array([[0, value]], kind)) for value in largest]


@pytest.mark.parametrize(
    ("largest", "is_floating", "white"),
    [
        *((0, False, 255), (255, False, 255), (256, False, 511), (4095, False, 4095), (4096, False, 8191)),
        *((65535, False, 65535), (1.0, True, 1), (0.2, True, 1), (200.0, True, 255), (4000.5, True, 4095)),
    ],
)
def test_white_is_the_largest_value_of_as_many_bits(largest: float, is_floating: bool, white: float) -> None:
    assert white_of(largest, is_floating=is_floating) == white


def test_one_white_for_the_whole_data_set_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert settle_white([*of(100, 4000), tiff(np.zeros((2, 2), np.uint8))], PixelForm(), "made up").white == 4095
    assert "made up: 2 of 3 images have more than 8 bits a pixel; their largest value is 4,000" in caplog.text
    assert "0..4,095 (12 bits)" in caplog.text
    assert "--data.white_level" in caplog.text


def test_images_of_8_bits_and_a_white_that_is_set_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert settle_white([tiff(np.zeros((2, 2), np.uint8)), b"no image"], PixelForm(), "made up").white is None
    assert settle_white(of(4000), PixelForm(white=1000), "made up").white == 1000
    assert not caplog.records


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (of(-1, kind=np.float32), "values below 0"),
        (of(np.inf, kind=np.float32), "not finite"),
        (of(np.nan, kind=np.float32), "not finite"),
        (of(-7, kind=np.int32), "values below 0"),
        ([*of(0.5, kind=np.float32), *of(300)], "floating values and others whole numbers"),
    ],
)
def test_values_without_a_black_and_white_are_refused(files: list[bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        settle_white(files, PixelForm(), "made up")


def test_arrays_have_one_white_too(caplog: pytest.LogCaptureFixture) -> None:
    assert told_white(1000, "made up") == 1023
    assert "1,000" in caplog.text
