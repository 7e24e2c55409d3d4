"""Episodes hold what their shape says, nothing twice, and every class and image as often as any other."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datanas.core.errors import DataError
from datanas.core.seeding import generator
from datanas.data.episodes import EpisodeSampler, EpisodeShape


def sampler(
    sizes: list[int], shape: EpisodeShape, chosen: list[int] | None = None, shuffled: bool = True
) -> tuple[EpisodeSampler, torch.Tensor]:
    """A sampler over classes of these sizes, and the labels of its images."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    if shuffled:
        labels = labels[torch.randperm(len(labels), generator=generator(0, "test"))]
    names = [f"class {number}" for number in range(len(sizes))]
    some = None if chosen is None else torch.tensor(chosen)
    return EpisodeSampler(labels, names, shape, some, part="train", setting="task.train"), labels


@settings(deadline=None)
@given(
    extra=st.lists(st.integers(0, 6), min_size=2, max_size=9),
    shot=st.integers(1, 3),
    query=st.integers(1, 3),
    episodes=st.integers(1, 5),
    data=st.data(),
)
def test_classes_and_images_of_an_episode_are_distinct(
    extra: list[int], shot: int, query: int, episodes: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(extra) - 1), unique=True, min_size=2))
    shape = EpisodeShape(data.draw(st.integers(2, len(chosen))), shot, query)
    made, labels = sampler([shape.each + more for more in extra], shape, chosen)
    drawn = made.draw(episodes, generator(data.draw(st.integers(0, 99)), "episodes"))
    assert drawn.shape == (episodes, shape.way, shape.each)
    for episode in drawn:
        assert len(set(episode.flatten().tolist())) == shape.images
        classes = labels[episode]
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == shape.way
        assert set(classes[:, 0].tolist()) <= set(chosen)


def test_every_class_and_every_image_is_as_likely_as_any_other() -> None:
    """Also in classes of different sizes; five standard deviations are allowed."""
    made, labels = sampler([3, 3, 9, 30], EpisodeShape(2, 1, 1))
    drawn = made.draw(6000, generator(1, "episodes"))
    classes = Counter(labels[drawn[:, :, 0]].flatten().tolist())
    assert all(abs(classes[number] - 3000) < 5 * 1500**0.5 for number in range(4))
    places = Counter(drawn[labels[drawn] == 2].tolist())
    expected = 2 * classes[2] / 9
    assert len(places) == 9
    assert all(abs(count - expected) < 5 * expected**0.5 for count in places.values())


def test_episodes_are_a_function_of_the_generator() -> None:
    made, _ = sampler([5, 6, 7], EpisodeShape(2, 2, 2))
    first, again, other = (made.draw(4, generator(seed, "episodes")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_members_are_the_images_of_the_chosen_classes() -> None:
    made, labels = sampler([2, 3, 4], EpisodeShape(2, 1, 1), [2, 0])
    assert sorted(made.members.tolist()) == ((labels == 0) | (labels == 2)).nonzero().flatten().tolist()


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"task\.train\.way: episodes of 3 classes .* the part 'train', which has 2; set"
    ):
        sampler([4, 4, 4], EpisodeShape(3, 1, 1), [0, 2])


def test_a_class_of_too_few_images_is_named() -> None:
    with pytest.raises(
        DataError,
        match=r"task\.train: class 'class 1' of the part 'train' has 3 images, an episode takes 4 of each class "
        r"\(1 to learn from, 3 to recognise\)",
    ):
        sampler([4, 3, 9], EpisodeShape(2, 1, 3))


def test_a_small_class_that_is_not_drawn_from_does_no_harm() -> None:
    made, labels = sampler([4, 1, 9], EpisodeShape(2, 1, 3), [0, 2])
    assert set(labels[made.draw(9, generator(0, "episodes"))].flatten().tolist()) == {0, 2}
