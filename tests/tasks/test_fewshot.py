"""Few-shot learning: which classes go where, episodes as batches, the loss, and the two ways to measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import datanas
from datanas.core.errors import ConfigError, DataError
from datanas.core.processes import Processes
from datanas.core.settings import validate
from datanas.data.base import ImageData, ImageSet
from datanas.data.types.class_splits import ClassSet, ClassSplitData
from datanas.tasks.fewshot import FewShot
from datanas.tasks.prototypes import log_probs

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "search": {"way": 3, "query": 2},
    "train": {"way": 4, "query": 3},
    "test": {"way": 2, "query": 2, "episodes": 60},
    "episodes": 12,
}


def classes(count: int, name: str, each: int = 6, size: int = 8) -> ClassSet:
    """Noise; the first pixel of an image is its number in the set, the second its class."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count * each, 1, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count * each) % count
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = torch.arange(count * each), labels
    return ClassSet(ImageSet(pixels, labels), tuple(f"{name} {number}" for number in range(count)))


DATA = ClassSplitData(classes(10, "train"), None, classes(4, "test"))
WITH_VALIDATION = replace(DATA, validation=classes(3, "validation"))


def task(data: object = DATA, seed: int = 0, **settings: Any) -> FewShot:
    return FewShot(validate(FewShot.Config, {**SETTINGS, **settings}, "task"), data, CPU, seed)


def raw(made: FewShot, images: Tensor) -> Tensor:
    """The pixels 0..255 of normalised images."""
    return (255 * (images * made.data.std[:, None, None] + made.data.mean[:, None, None])).round().long()


def seen_classes(made: FewShot, part: Any, steps: int = 20) -> set[int]:
    """Those in the batches of a part, from the pixel that tells."""
    return {
        int(pixel) for step in range(steps) for pixel in raw(made, made.batch(part, step).images)[:, 0, 0, 1].flatten()
    }


class Pixels(nn.Module):
    """Embeds an image as its pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_search_parts_have_no_class_in_common() -> None:
    made = task()
    made.split_search("1:1", 2, None)
    weights, alpha = seen_classes(made, "weights"), seen_classes(made, "alpha")
    assert (len(weights), len(alpha)) == (5, 5)
    assert not weights & alpha


def test_search_parts_have_the_ratio_that_is_asked_for() -> None:
    made = task()
    made.split_search("3:2", 2, None)
    assert (len(seen_classes(made, "weights")), len(seen_classes(made, "alpha"))) == (6, 4)


def test_a_search_may_use_some_whole_classes() -> None:
    made = task()
    made.split_search("1:1", 2, 41)
    weights, alpha = seen_classes(made, "weights"), seen_classes(made, "alpha")
    assert (len(weights), len(alpha)) == (3, 3)
    assert not weights & alpha


def test_too_few_classes_to_search_with_are_refused() -> None:
    with pytest.raises(DataError, match=r"task\.search\.way: episodes of 3 classes .* 'weights', which has 2;"):
        task().split_search("1:1", 2, 26)


def test_what_is_held_out_are_whole_classes() -> None:
    made = task()
    made.split_train(0.3, 1)
    assert len(seen_classes(made, "train")) == 7
    assert len(made._samplers["validation"].chosen) == 3
    assert not set(made._samplers["validation"].chosen.tolist()) & seen_classes(made, "train")
    assert made.evaluate(Pixels(), "validation")["loss"] > 0


def test_data_may_bring_classes_for_validation() -> None:
    assert task(WITH_VALIDATION).has_validation
    assert not task().has_validation


def test_a_batch_is_whole_episodes_of_shots_and_queries() -> None:
    made = task(test={"way": 2, "shot": 2, "query": 2})
    made.split_train(0.0, 3)
    batch = made.batch("train", 0)
    assert (batch.shape.way, batch.shape.shot, batch.shape.query) == (4, 2, 3)
    assert batch.images.shape == (3 * 4 * 5, 1, 8, 8)
    labels = raw(made, batch.images)[:, 0, 0, 1].view(3, 4, 5)
    assert (labels == labels[:, :, :1]).all()
    assert all(len(set(episode[:, 0].tolist())) == 4 for episode in labels)


def test_shots_are_those_of_the_test_unless_they_are_given() -> None:
    made = task(train={"way": 3, "shot": 1, "query": 2}, test={"way": 2, "shot": 3, "query": 2})
    made.split_train(0.0, 1)
    made.split_search("1:1", 1, None)
    assert [made._samplers[part].shape.shot for part in ("train", "weights", "alpha", "test")] == [1, 3, 3, 3]


@pytest.mark.parametrize(("batch", "steps"), [(1, 12), (5, 2), (20, 1)])
def test_an_epoch_has_as_many_episodes_as_are_set(batch: int, steps: int) -> None:
    made = task()
    made.split_train(0.0, batch)
    assert made.steps_per_epoch("train") == steps


def test_the_loss_is_the_mean_over_episodes() -> None:
    made = task()
    made.split_train(0.0, 3)
    batch = made.batch("train", 0)
    model = lambda x: 0.05 * x.flatten(1)  # noqa: E731
    parts = [
        -log_probs(model(images).view(4, 4, -1), 1).diagonal(dim1=-3, dim2=-1).mean()
        for images in batch.images.split(16)
    ]
    torch.testing.assert_close(made.loss(model, batch), torch.stack(parts).mean())


def test_distances_may_be_means_over_the_dimensions() -> None:
    made, mean, divided = task(), task(temperature=None), task(temperature=64.0)
    for each in (made, mean, divided):
        each.split_train(0.0, 1)
    batch = made.batch("train", 0)
    assert mean.loss(Pixels(), batch) == divided.loss(Pixels(), batch)
    assert mean.loss(Pixels(), batch) != made.loss(Pixels(), batch)


def test_what_is_measured_repeats_and_counts_its_episodes() -> None:
    figures = task().evaluate(Pixels(), "test")
    assert figures == task().evaluate(Pixels(), "test")
    assert set(figures) == {"accuracy", "interval", "loss"}
    assert figures != task(seed=1).evaluate(Pixels(), "test")
    assert task(test={"way": 2, "query": 2, "episodes": 240}).evaluate(Pixels(), "test")["interval"] < (
        0.7 * figures["interval"]
    )


def test_what_can_be_told_apart_is() -> None:
    """A network that reads the class from its pixel makes no mistake, and one that sees nothing guesses."""
    made = task()
    made.split_search("1:1", 1, None)
    for part in ("alpha", "test"):
        figures = made.evaluate(lambda x: 1e3 * x[:, 0, 0, 1:2], part)
        assert (figures["accuracy"], figures["interval"], figures["loss"]) == (1.0, 0.0, pytest.approx(0.0, abs=1e-6))
        blind = made.evaluate(lambda x: 0 * x[:, 0, 0, 1:2], part)
        assert blind["loss"] == pytest.approx(torch.tensor(made._samplers[part].shape.way).log().item(), rel=1e-5)


def test_a_part_of_a_search_is_measured_alike_in_both_ways() -> None:
    """Episode by episode as for a supernet, and from images embedded once as for a network."""
    made = task()
    made.split_search("1:1", 1, None)
    assert made.evaluate(Pixels(), "alpha") == pytest.approx(made.monitor(Pixels(), "alpha"), rel=1e-5)


@pytest.mark.parametrize(("limit", "calls"), [(1, 2), (18, 2), (19, 3), (10**6, 60)])
def test_on_a_part_of_a_search_each_episode_passes_by_itself(limit: int, calls: int) -> None:
    """So that a supernet whose every call is another child compares queries with shots of the same one."""
    made = task()
    made.split_search("1:1", 1, None)
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x.flatten(1)

    made.evaluate(model, "alpha", limit)
    assert seen == [9] * calls


def test_elsewhere_each_image_is_embedded_once() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1)

    made = task()
    made.evaluate(model, "test")
    assert sorted(raw(made, torch.cat(seen))[:, 0, 0, 0].tolist()) == list(range(24))


class Several(Processes):
    """One of three processes that have left what they found in `found`, in the order in which they ask."""

    size = 3

    def __init__(self, rank: int, others: list[Tensor]) -> None:
        self.rank, self._others = rank, others

    def total(self, tensor: Tensor) -> Tensor:
        self._others.append(tensor.clone())
        return tensor


@pytest.mark.parametrize("part", ["alpha", "test"])
def test_what_processes_find_adds_up_to_what_one_finds(part: Any) -> None:
    found: list[list[Tensor]] = []
    for rank in range(3):
        made = task()
        made.split_search("1:1", 1, None)
        found.append([])
        made.processes = Several(rank, found[-1])
        made.evaluate(Pixels(), part)
    alone: list[Tensor] = []
    made = task()
    made.split_search("1:1", 1, None)
    made.processes = Several(0, alone)
    made.processes.size = 1
    made.evaluate(Pixels(), part)
    for whole, shares in zip(alone, zip(*found, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(shares).sum(0), whole)
        assert all(share.abs().sum() < whole.abs().sum() for share in shares)


def test_augmentation_is_off_unless_it_is_asked_for() -> None:
    plain, moved = task(), task(train_augment={"crop_padding": 2, "flip": True})
    for made in (plain, moved):
        made.split_train(0.0, 2)
    numbers = raw(plain, plain.batch("train", 0).images)[:, 0, 0, 0]
    assert torch.equal(raw(plain, plain.batch("train", 0).images).to(torch.uint8), DATA.train.images.images[numbers])
    assert not torch.equal(plain.batch("train", 0).images, moved.batch("train", 0).images)


def test_shuffled_labels_mean_nothing() -> None:
    made = task()
    made.shuffle_labels()
    made.split_train(0.0, 2)
    labels = raw(made, made.batch("train", 0).images)[:, 0, 0, 1].view(8, 4)
    assert (labels != labels[:, :1]).any()


def test_the_fingerprint_knows_pixels_classes_and_splits() -> None:
    def shown(data: ClassSplitData = DATA, split: Callable[[FewShot], None] | None = None, seed: int = 0) -> str:
        made = task(data, seed)
        (split or (lambda each: each.split_search("1:1", 1, None)))(made)
        return made.fingerprint()

    other = DATA.train.images.images.clone()
    other[7, 0, 3, 3] ^= 1
    changed = replace(DATA, train=replace(DATA.train, images=replace(DATA.train.images, images=other)))
    renamed = replace(DATA, test=replace(DATA.test, classes=("a", "b", "c", "d")))
    found = [
        shown(),
        shown(changed),
        shown(renamed),
        shown(seed=1),
        shown(split=lambda each: each.split_train(0.0, 1)),
        shown(WITH_VALIDATION),
    ]
    assert len(set(found)) == len(found)
    assert shown() == found[0]


def test_images_smaller_than_the_strides_are_refused() -> None:
    small = ClassSplitData(classes(10, "train", size=7), None, classes(4, "test", size=7))
    with pytest.raises(ConfigError, match=r"task\.stem: .* the stem cifar_half divides .* by 8, .* have 7 pixels"):
        task(small)
    assert task(small, stem="cifar").num_classes == 64
    assert task(small, stem="none").example_shape == (1, 7, 7)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_part_that_cannot_be_measured_is_refused_at_once(part: str) -> None:
    with pytest.raises(DataError, match=rf"task\.test\.way: .* the part '{part}', which has 1; set fewer ways"):
        task(replace(WITH_VALIDATION, **dict[str, Any]({part: classes(1, part)})))


def test_images_of_shared_classes_are_parted_by_class() -> None:
    both = classes(9, "class")
    even = torch.arange(0, len(both), 2)
    data = ImageData(both.images.select(even), both.images.select(even + 1), both.classes)
    made = task(data, test_classes=0.34)
    assert {name: part["classes"] for name, part in made.describe().items() if name != "shape"} == {
        "train": 6,
        "test": 3,
    }
    assert made.describe()["train"]["images"] == 36
    assert task(data, seed=5, test_classes=0.34).data.test.classes == made.data.test.classes


def test_an_auxiliary_tower_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.auxiliary: task fewshot has no auxiliary classifier"):
        datanas.build_network(datanas.architecture("gdas"), task="fewshot", channels=2, cells=5, auxiliary=True)
