"""Crops lie inside the image and have the area and shape that are asked for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datanas.data.decode.crops import ATTEMPTS, DRAWS, LONGEST, centre_square, random_box

sizes = st.integers(1, 400)
draws = st.lists(st.floats(0, 1), min_size=DRAWS, max_size=DRAWS)
many = settings(max_examples=200, deadline=None)


@many
@given(width=sizes, height=sizes, draws=draws, smallest=st.floats(0.01, 1))
def test_a_random_crop_lies_inside_and_is_neither_too_flat_nor_too_steep(
    width: int, height: int, draws: list[float], smallest: float
) -> None:
    left, top, right, bottom = random_box(width, height, draws, smallest)
    assert -1e-6 <= left < right <= width + 1e-6
    assert -1e-6 <= top < bottom <= height + 1e-6
    assert 1 / LONGEST - 1e-6 <= (right - left) / (bottom - top) <= LONGEST + 1e-6


def test_areas_and_shapes_are_uniform_where_everything_fits() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(4000, DRAWS, generator=generator, dtype=torch.float64).tolist()
    boxes = torch.tensor([random_box(300, 300, row, 0.1) for row in rows])
    breadth, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shapes = (breadth / tall).log() / math.log(LONGEST)
    small = breadth * tall < 0.5 * 300 * 300  # none of these was drawn again
    assert abs(float(shapes[small].mean())) < 0.05
    assert abs(float(shapes[small].var()) - 1 / 3) < 0.05
    areas = (breadth * tall / 300**2)[small]
    assert abs(float(areas.mean()) - 0.3) < 0.01


def test_the_first_shape_that_fits_is_taken() -> None:
    flat, square = [1.0, 1.0], [0.5, 0.5]
    row = [*flat, *square, *[0.0] * (2 * ATTEMPTS - 4), 0.5, 0.5]
    left, top, right, bottom = random_box(100, 100, row, 0.02)
    side = math.sqrt(0.51) * 100
    assert (right - left, bottom - top) == pytest.approx((side, side))
    assert (left, top) == pytest.approx(((100 - side) / 2, (100 - side) / 2))


@pytest.mark.parametrize(("size", "box"), [((400, 100), (400 / 3, 100)), ((100, 400), (100, 400 / 3))])
def test_where_no_shape_fits_the_centre_is_taken(size: tuple[int, int], box: tuple[float, float]) -> None:
    row = [1.0, 0.5] * ATTEMPTS + [0.0, 0.0]
    left, top, right, bottom = random_box(*size, row, 0.9)
    assert (right - left, bottom - top) == pytest.approx(box)
    assert (left + right, top + bottom) == pytest.approx(size)


@many
@given(width=sizes, height=sizes, share=st.floats(0.1, 1))
def test_the_centre_square(width: int, height: int, share: float) -> None:
    left, top, right, bottom = centre_square(width, height, share)
    assert right - left == pytest.approx(bottom - top) == pytest.approx(share * min(width, height))
    assert (left + right, top + bottom) == pytest.approx((width, height))
