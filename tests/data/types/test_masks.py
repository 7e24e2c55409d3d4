"""Images with masks: their statistics, and the faults that are found before a run."""

from __future__ import annotations

import pytest
import torch

from datanas.core.errors import DataError
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet, check_masks


def blank(*masks: list[list[int]]) -> SegmentationSet:
    """Black images with these masks."""
    made = tuple(torch.tensor(mask, dtype=torch.uint8) for mask in masks)
    images = tuple(torch.zeros(3, *mask.shape, dtype=torch.uint8) for mask in made)
    return SegmentationSet(images, made, tuple(f"{index}.png" for index in range(len(made))))


GOOD = blank([[0, 1], [VOID, 1]], [[1, 1, 0]])


def test_statistics_are_those_of_all_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    images = tuple(
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in ((4, 5), (2, 9), (1, 1))
    )
    masks = tuple(torch.zeros(image.shape[1:], dtype=torch.uint8) for image in images)
    data = SegmentationData(SegmentationSet(images, masks, ("a", "b", "c")), GOOD, ("ant", "bee"))
    pixels = torch.cat([image.flatten(1) for image in images], dim=1).double() / 255
    torch.testing.assert_close(data.mean, pixels.mean(1).float())
    torch.testing.assert_close(data.std, pixels.std(1, correction=0).float())


def test_constant_channels_can_be_normalised() -> None:
    assert (SegmentationData(GOOD, GOOD, ("ant", "bee")).std == 1 / 255).all()


def test_sound_data_pass() -> None:
    check_masks(SegmentationData(GOOD, GOOD, ("ant", "bee"), validation=GOOD), "made up")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SegmentationData(GOOD, GOOD, ("ant",)), "made up: only one class"),
        (SegmentationData(GOOD, GOOD, tuple(map(str, range(256)))), "256 classes; a mask of bytes holds 255 at most"),
        (SegmentationData(GOOD, blank(), ("ant", "bee")), "test holds no images"),
        (SegmentationData(GOOD, GOOD, ("ant", "bee"), validation=blank()), "validation holds no images"),
        (
            SegmentationData(blank([[0, 1]], [[0, 7]]), GOOD, ("ant", "bee")),
            r"train mask 1\.png has the value 7; it must hold classes 0\.\.1, or 255 for void",
        ),
        (SegmentationData(GOOD, blank([[2, 0]]), ("ant", "bee")), r"test mask 0\.png has the value 2"),
        (SegmentationData(blank([[1, 1], [VOID, 1]]), GOOD, ("ant", "bee")), "training are of one class"),
        (SegmentationData(blank([[VOID]]), GOOD, ("ant", "bee")), "training are of one class"),
        (
            SegmentationData(SegmentationSet(GOOD.images, GOOD.masks[::-1], GOOD.names), GOOD, ("ant", "bee")),
            r"image 0\.png is 2x2, its mask 3x1",
        ),
        (
            SegmentationData(
                SegmentationSet((torch.zeros(1, 2, 2, dtype=torch.uint8),), GOOD.masks[:1], ("grey",)),
                GOOD,
                ("ant", "bee"),
            ),
            r"image grey must be uint8 \(3, h, w\)",
        ),
    ],
)
def test_a_fault_is_named(data: SegmentationData, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_masks(data, "made up")


def test_images_masks_and_names_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 images, 1 masks and 2 names"):
        SegmentationSet(GOOD.images, GOOD.masks[:1], GOOD.names)
