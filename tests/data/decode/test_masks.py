"""Encoded pairs: what a mask means, and how a fault is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from datanas.core.errors import DataError
from datanas.data.decode.masks import Pair, Palette, decode_pairs
from datanas.data.decode.open_image import PixelForm
from datanas.data.types.masks import VOID

COLOUR = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
CLASSES = np.array([[0, 1, 2, 3], [3, 3, 255, 0]], np.uint8)


def encoded(pixels: np.ndarray | Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, form)
    return file.getvalue()


def palette() -> Image.Image:
    image = Image.fromarray(CLASSES, "P")
    image.putpalette([255 - value for value in range(256) for _ in range(3)])
    return image


@pytest.mark.parametrize(
    "mask", [CLASSES, encoded(CLASSES), encoded(palette()), encoded(CLASSES.astype(np.uint16))], ids=str
)
def test_a_mask_is_a_number_a_pixel(mask: bytes | np.ndarray) -> None:
    found = decode_pairs([Pair("a", encoded(COLOUR), mask)], "made up")
    assert found.masks[0].tolist() == CLASSES.tolist()
    assert found.images[0].permute(1, 2, 0).tolist() == COLOUR.tolist()
    assert found.names == ("a",)


def test_void_values_become_one() -> None:
    found = decode_pairs([Pair("a", encoded(COLOUR), CLASSES)], "made up", void=(VOID, 3))
    assert found.masks[0].tolist() == [[0, 1, 2, VOID], [VOID, VOID, VOID, 0]]


def test_files_and_bytes_are_alike(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(COLOUR))
    (tmp_path / "mask.png").write_bytes(encoded(CLASSES))
    pairs = [
        Pair("a", tmp_path / "a.png", tmp_path / "mask.png"),
        Pair("b", encoded(COLOUR), encoded(CLASSES)),
    ]
    found = decode_pairs(pairs, "made up")
    assert found.images[0].equal(found.images[1])
    assert found.masks[0].equal(found.masks[1])


def test_a_photograph_is_turned_upright_as_its_camera_says() -> None:
    """By 180 degrees here, where the size would tell nothing."""
    image, file = Image.fromarray(COLOUR[::-1, ::-1].copy()), io.BytesIO()
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 3
    image.save(file, "PNG", exif=exif)
    found = decode_pairs([Pair("a", file.getvalue(), CLASSES)], "made up")
    assert found.images[0].permute(1, 2, 0).tolist() == COLOUR.tolist()


def test_large_images_are_reduced_without_mixing_classes() -> None:
    image, mask = np.full((30, 60, 3), 9, np.uint8), np.zeros((30, 60), np.uint8)
    mask[:, 30:] = 7
    found = decode_pairs([Pair("a", encoded(image), mask), Pair("b", encoded(COLOUR), CLASSES)], "x", longest=20)
    assert [tuple(mask.shape) for mask in found.masks] == [(10, 20), (2, 4)]
    assert set(found.masks[0].flatten().tolist()) == {0, 7}
    assert (found.images[0] == 9).all()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (Pair("a", b"GIF87", CLASSES), r"made up image a is broken \(not an image\)"),
        (Pair("a", encoded(COLOUR)[:40], CLASSES), "made up image a is broken"),
        (Pair("a", encoded(COLOUR), encoded(COLOUR)), "mask a is a picture of the mode 'RGB'"),
        (Pair("a", encoded(COLOUR), Path("no/such.png")), "mask a is missing: no such file: .*such.png"),
        (Pair("a", encoded(COLOUR), CLASSES[:1]), "image a is 4x2, its mask 4x1"),
        (Pair("a", encoded(COLOUR), CLASSES.astype(np.int64) + 200), "mask a has the value 45[0-9]"),
        (Pair("a", encoded(COLOUR), CLASSES.astype(np.int64) - 1), "mask a has the value -1"),
    ],
)
def test_a_fault_is_named(pair: Pair, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_pairs([Pair("good", encoded(COLOUR), CLASSES), pair], "made up")


def test_there_must_be_images() -> None:
    with pytest.raises(DataError, match="made up holds no images"):
        decode_pairs([], "made up")


def coloured(colours: list[tuple[int, int, int]]) -> bytes:
    image = Image.fromarray(CLASSES % 2, "P")
    image.putpalette([value for colour in colours for value in colour])
    return encoded(image)


RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([BLACK, GREEN], r"1 is the colour \(255, 0, 0\) in mask a and \(0, 255, 0\) in b"),
        ([RED, BLACK], r"0 is the colour \(0, 0, 0\) in mask a and \(255, 0, 0\) in b"),
        ([GREEN, RED], "palettes differ"),
    ],
)
def test_palettes_in_which_a_number_means_another_colour_are_refused(
    second: list[tuple[int, int, int]], message: str
) -> None:
    pairs = [Pair("a", encoded(COLOUR), coloured([BLACK, RED])), Pair("b", encoded(COLOUR), coloured(second))]
    with pytest.raises(DataError, match=message):
        decode_pairs(pairs, "made up")
    assert len(decode_pairs(pairs, "made up", palette=Palette(may_differ=True))) == 2


def test_palettes_in_which_a_colour_has_another_number_are_refused() -> None:
    other = Image.fromarray(CLASSES % 2 + 2, "P")
    other.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2, *RED])
    pairs = [Pair("a", encoded(COLOUR), coloured([BLACK, RED])), Pair("b", encoded(COLOUR), encoded(other))]
    with pytest.raises(DataError, match=r"the colour \(255, 0, 0\) is 1 in mask a and 3 in b"):
        decode_pairs(pairs, "made up")


def test_palettes_are_compared_over_all_parts() -> None:
    palette = Palette()
    decode_pairs([Pair("a", encoded(COLOUR), coloured([BLACK, RED]))], "train", palette=palette)
    decode_pairs([Pair("b", encoded(COLOUR), coloured([BLACK, RED, GREEN]))], "test", palette=palette)
    with pytest.raises(DataError, match="in mask a and"):
        decode_pairs([Pair("c", encoded(COLOUR), coloured([BLACK, GREEN]))], "test", palette=palette)


def test_a_mask_that_was_compressed_with_loss_is_refused_by_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    file.write_bytes(encoded(CLASSES, "JPEG"))
    with pytest.raises(DataError, match=r"mask mask\.png \(of image a\.jpg\) is a JPEG, .*save masks as PNG"):
        decode_pairs([Pair("a.jpg", encoded(COLOUR), file)], "made up")


def test_a_tiff_that_was_compressed_with_loss_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "mask.tif"
    Image.fromarray(CLASSES).save(file, compression="jpeg")
    with pytest.raises(DataError, match="compressed like one"):
        decode_pairs([Pair("a.jpg", encoded(COLOUR), file)], "made up")


def test_classes_may_have_values_of_their_own() -> None:
    mask = np.array([[0, 255, 128, 0], [255, 255, 0, 0]], np.uint8)
    found = decode_pairs([Pair("a", encoded(COLOUR), mask)], "made up", values=(0, 255), void=(128,))
    assert found.masks[0].tolist() == [[0, 1, VOID, 0], [1, 1, 0, 0]]
    with pytest.raises(DataError, match=r"mask a has the value 128, which is none of data\.values \(0, 255\)"):
        decode_pairs([Pair("a", encoded(COLOUR), mask)], "made up", values=(0, 255), void=())


def test_images_of_more_than_8_bits_are_scaled_and_not_cut_off() -> None:
    image = np.array([[0, 16, 2048, 4095]], np.uint16)
    found = decode_pairs([Pair("a", encoded(image), CLASSES[:1])], "made up", form=PixelForm(white=4095))
    assert found.images[0][0].tolist() == [[0, 1, 128, 255]]
