"""Scale, crop and flip of an image and its mask: together, exact, and keyed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.data.augment_masks import MaskAugment, Window, cut_image, cut_mask, draw_windows
from datanas.data.types.masks import VOID

MEAN, STD = torch.zeros(3), torch.full((3,), 1 / 255)
"""With which pixels stay as they are."""
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(SIZES, SIZES, st.integers(1, 16), st.integers(0, 99), st.booleans())
def test_a_cut_is_the_place_of_the_scaled_image_or_void(
    size: tuple[int, int], scaled: tuple[int, int], side: int, seed: int, mirrored: bool
) -> None:
    """Against a loop over pixels."""
    (drawn,) = draw_windows([scaled], side, MaskAugment(scale=(1.0, 1.0), flip=True), generator(seed))
    top, left = drawn.top, drawn.left
    window = Window(scaled, top, left, side, mirrored)
    mask = torch.randint(0, 9, size, generator=generator(seed), dtype=torch.uint8)
    image = mask.expand(3, *size)
    found_mask, found_image = cut_mask(mask, window), cut_image(image, window, MEAN, STD)
    larger = F.interpolate(image[None].float(), scaled, mode="bilinear", align_corners=False)[0]
    for row in range(side):
        for column in range(side):
            y, x = top + row, left + (side - 1 - column if mirrored else column)
            if 0 <= y < scaled[0] and 0 <= x < scaled[1]:
                source = (int((y + 0.5) * size[0] / scaled[0]), int((x + 0.5) * size[1] / scaled[1]))
                assert found_mask[row, column] == mask[source]
                assert torch.allclose(found_image[:, row, column], larger[:, y, x], atol=1e-3)
            else:
                assert found_mask[row, column] == VOID
                assert (found_image[:, row, column] == 0).all()


def test_beyond_the_border_an_image_is_its_mean() -> None:
    mean, std = torch.tensor([0.2, 0.4, 0.6]), torch.full((3,), 0.5)
    found = cut_image(torch.full((3, 2, 2), 255, dtype=torch.uint8), Window((2, 2), -1, -1, 4, False), mean, std)
    assert (found[:, 0] == 0).all()
    torch.testing.assert_close(found[:, 1, 1], (1 - mean) / std)


@given(st.lists(SIZES, min_size=1, max_size=5), st.integers(1, 16), st.integers(0, 999))
def test_the_smaller_of_window_and_image_lies_in_the_larger(sizes: list[tuple[int, int]], side: int, seed: int) -> None:
    for window in draw_windows(sizes, side, MaskAugment(flip=True), generator(seed)):
        for start, length in zip((window.top, window.left), window.size, strict=True):
            assert min(0, length - side) <= start <= max(0, length - side)


def test_every_scale_place_and_side_is_drawn() -> None:
    windows = draw_windows([(8, 10)] * 2000, 7, MaskAugment(scale=(0.5, 2.0), flip=True), generator())
    assert {window.size[0] for window in windows} == set(range(4, 17))
    assert {window.top for window in windows if window.size[0] == 12} == set(range(6))
    assert {window.left for window in windows if window.size[1] == 5} == set(range(-2, 1))
    assert sum(window.mirrored for window in windows) == pytest.approx(1000, abs=100)


def test_switching_the_flip_off_leaves_the_rest() -> None:
    plain = draw_windows([(8, 10)] * 20, 7, MaskAugment(flip=False), generator())
    flipped = draw_windows([(8, 10)] * 20, 7, MaskAugment(flip=True), generator())
    assert not any(window.mirrored for window in plain)
    assert [(w.size, w.top, w.left) for w in plain] == [(w.size, w.top, w.left) for w in flipped]


def test_scale_one_leaves_the_pixels() -> None:
    (window,) = draw_windows([(5, 5)], 5, MaskAugment(scale=(1.0, 1.0), flip=False), generator())
    image = torch.randint(0, 256, (3, 5, 5), generator=generator(), dtype=torch.uint8)
    torch.testing.assert_close(cut_image(image, window, MEAN, STD), image.float())
    assert torch.equal(cut_mask(image[0], window), image[0])


@pytest.mark.parametrize("scale", [(2.0, 0.5), (0.0, 1.0), (1.0, 11.0)])
def test_scales_that_make_no_sense_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="two ascending factors"):
        validate(MaskAugment, {"scale": scale}, "augment")


@pytest.mark.parametrize(("flip", "bears", "mirrors"), [(None, True, True), (None, False, False), (True, False, True)])
def test_the_data_say_whether_to_mirror_where_the_settings_do_not(
    flip: bool | None, bears: bool, mirrors: bool
) -> None:
    assert MaskAugment(flip=flip).settled(bears_mirroring=bears).flip is mirrors
