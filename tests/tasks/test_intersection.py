"""Intersection over union against sets of pixels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datanas.data.types.masks import VOID
from datanas.tasks.intersection import count_regions, intersection_over_union, pixel_accuracy, share_of_wrong

CLASSES = 4
PIXELS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.sampled_from([*range(CLASSES), VOID])), max_size=40)


def table(pixels: list[tuple[int, int]]) -> torch.Tensor:
    predicted, labels = (torch.tensor([pair[side] for pair in pixels], dtype=torch.int64) for side in (0, 1))
    return count_regions(predicted[None], labels[None], CLASSES)[0]


@given(PIXELS)
def test_it_is_the_overlap_of_two_sets_of_pixels(pixels: list[tuple[int, int]]) -> None:
    found = intersection_over_union(table(pixels))
    known = [(place, *pair) for place, pair in enumerate(pixels) if pair[1] != VOID]
    for label in range(CLASSES):
        taken = {place for place, guess, _ in known if guess == label}
        true = {place for place, _, truth in known if truth == label}
        if taken | true:
            assert found[label] == pytest.approx(len(taken & true) / len(taken | true))
        else:
            assert math.isnan(found[label])


@given(PIXELS)
def test_pixel_accuracy_is_the_share_that_is_right(pixels: list[tuple[int, int]]) -> None:
    known = [guess == truth for guess, truth in pixels if truth != VOID]
    assert pixel_accuracy(table(pixels)) == pytest.approx(sum(known) / max(len(known), 1))


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 2, VOID])), min_size=6, max_size=6)))
def test_images_are_counted_each_by_itself(images: list[list[tuple[int, int]]]) -> None:
    pixels = torch.tensor(images, dtype=torch.int64).view(-1, 2, 3, 2)
    counted = count_regions(pixels[..., 0], pixels[..., 1], CLASSES)
    assert counted.shape == (len(images), 3, CLASSES)
    for image, found, wrong in zip(images, counted, share_of_wrong(counted), strict=True):
        assert torch.equal(found, table(image))
        known = [guess != truth for guess, truth in image if truth != VOID]
        assert wrong == pytest.approx(sum(known) / max(1, len(known)))


@given(PIXELS, PIXELS)
def test_tables_of_two_parts_add_up(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    assert torch.equal(table(first) + table(second), table(first + second))


def test_the_mean_over_images_is_another_figure() -> None:
    """Negative control: what is added up are counts, not figures."""
    first, second = [(0, 0)] * 9 + [(1, 0)], [(1, 0), (1, 1)]
    means = torch.stack([intersection_over_union(table(pixels))[:2] for pixels in (first, second)]).mean(0)
    assert not torch.allclose(means, intersection_over_union(table(first + second))[:2])
