from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import ImageSet
from datanas.data.batches import Stream, held_out, parse_ratio, sequential, split, stratified, unlabelled

labels_of = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(torch.tensor)
few = settings(max_examples=60, deadline=None)


def numbered(count: int) -> ImageSet:
    """Images whose one pixel is their index."""
    return ImageSet(torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.arange(count) % 3)


@pytest.mark.parametrize(
    ("text", "ratio"), [("1:1", (1, 1)), ("7:3", (7, 3)), (" 2 : 10 ", (2, 10)), ("0.5:1.25", (0.5, 1.25))]
)
def test_a_ratio_is_two_numbers(text: str, ratio: tuple[float, float]) -> None:
    assert parse_ratio(text) == ratio
    assert [isinstance(part, int) for part in parse_ratio(text)] == ["." not in text] * 2


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":1", "1:0", "0.0:1", "-1:1", "1:1:1", "a:b", "inf:1", "nan:1", "1e3:1"]
)
def test_anything_else_is_no_ratio(text: str) -> None:
    with pytest.raises(ValueError, match="a ratio must be two positive numbers m:n"):
        parse_ratio(text)


@few
@given(labels=labels_of, ratio=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 5))
def test_the_parts_of_a_stratified_split(labels: Tensor, ratio: tuple[int, int], seed: int) -> None:
    share = Fraction(ratio[0], sum(ratio))
    first, second = stratified(labels, share, seed, "test")
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    assert first.tolist() == sorted(first.tolist())
    for label in labels.unique():
        size, taken = int((labels == label).sum()), int((labels[first] == label).sum())
        assert abs(taken - size * share) <= 1
        assert size == 1 or 0 < taken < size


@few
@given(sizes=st.lists(st.integers(10, 30), min_size=1, max_size=8), first=st.integers(3, 7))
def test_rounding_is_carried_from_class_to_class(sizes: list[int], first: int) -> None:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    part, _ = split(labels, f"{first}:{10 - first}", 0)
    assert abs(len(part) - sum(sizes) * first / 10) <= 0.5


def test_a_split_depends_on_its_seed_alone() -> None:
    labels = torch.arange(200) % 10
    state = torch.get_rng_state()
    first, again, other = (split(labels, "1:1", seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_split_mixes_each_class() -> None:
    first, _ = split(torch.zeros(100, dtype=torch.int64), "1:1", 0)
    assert 10 < int((first < 50).sum()) < 40


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="1 images cannot be split 1:1"):
        split(torch.tensor([0]), "1:1", 0)


def test_what_is_held_out_is_balanced_and_the_rest_is_kept() -> None:
    labels = torch.arange(3).repeat(20)
    held, kept = held_out(labels, 0.2, seed=3)
    assert torch.bincount(labels[held]).tolist() == [4, 4, 4]
    assert sorted([*held.tolist(), *kept.tolist()]) == list(range(60))
    assert held_out(unlabelled(60), 0.2, seed=3)[0].tolist() != held.tolist()


def test_the_share_0_holds_out_none() -> None:
    held, kept = held_out(unlabelled(7), 0.0, seed=3)
    assert (held.tolist(), kept.tolist()) == ([], list(range(7)))


def test_a_held_out_share_is_the_decimal_that_was_written() -> None:
    """0.15 of 10 is 1.5 and rounds up; the nearest binary number is smaller and would round down."""
    assert len(held_out(unlabelled(10), 0.15, seed=3)[0]) == 2
    assert len(stratified(unlabelled(10), Fraction(0.15), 3, "validation")[0]) == 1


@pytest.mark.parametrize("share", [Fraction(0), Fraction(1), Fraction(-1, 2)])
def test_a_share_must_leave_both_parts_something(share: Fraction) -> None:
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        stratified(torch.tensor([0, 1]), share, 0, "test")


@few
@given(count=st.integers(1, 40), size=st.integers(1, 50), drop_last=st.booleans(), epoch=st.integers(0, 3))
def test_an_epoch_shows_each_image_once_at_most(count: int, size: int, drop_last: bool, epoch: int) -> None:
    indices = torch.arange(count) * 2
    stream = Stream(numbered(80), indices, size, seed=0, name="train", drop_last=drop_last)
    steps = range(epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch)
    batches = [stream.batch(step) for step in steps]
    shown = torch.cat([images.flatten() for images, _ in batches]).tolist()
    assert len(set(shown)) == len(shown)
    assert set(shown) <= set(indices.tolist())
    if drop_last:
        assert all(len(images) == min(size, count) for images, _ in batches)
    else:
        assert len(shown) == count
    for images, labels in batches:
        assert torch.equal(labels, images.flatten().long() % 3)


@few
@given(steps=st.lists(st.integers(0, 40), max_size=12))
def test_a_batch_is_a_function_of_its_step(steps: list[int]) -> None:
    stream = Stream(numbered(30), torch.arange(30), 7, seed=3, name="train")
    for step in steps:
        fresh = Stream(numbered(30), torch.arange(30), 7, seed=3, name="train")
        assert torch.equal(stream.batch(step)[0], fresh.batch(step)[0])


def test_the_order_depends_on_seed_name_and_epoch() -> None:
    def order(seed: int, name: str, step: int) -> list[int]:
        stream = Stream(numbered(30), torch.arange(30), 30, seed=seed, name=name)
        return stream.batch(step)[0].flatten().tolist()

    orders = [order(0, "train", 0), order(1, "train", 0), order(0, "alpha", 0), order(0, "train", 1)]
    assert len({tuple(numbers) for numbers in orders}) == 4
    assert all(sorted(numbers) == list(range(30)) for numbers in orders)


def test_a_stream_refuses_what_it_cannot_serve() -> None:
    data = numbered(3)
    with pytest.raises(ValueError, match="stream 'train' has no images"):
        Stream(data, torch.arange(0), 2, 0, "train")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Stream(data, torch.arange(3), 0, 0, "train")
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        Stream(data, torch.arange(3), 2, 0, "train").batch(-1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(sequential(data, None, 0))


@pytest.mark.parametrize("indices", [None, torch.tensor([4, 2, 9])])
def test_sequential_keeps_the_order_and_the_last_batch(indices: Tensor | None) -> None:
    batches = list(sequential(numbered(10), indices, 4))
    shown = torch.cat([images.flatten() for images, _ in batches]).tolist()
    assert shown == (list(range(10)) if indices is None else indices.tolist())
    assert [len(labels) for _, labels in batches] == ([4, 4, 2] if indices is None else [3])
