"""Classification: parts, batches, loss and score of images, and the ways in and out of a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import datanas
from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import merge, validate
from datanas.data.augment import normalise
from datanas.data.base import ImageData, ImageSet
from datanas.tasks.base import Part
from datanas.tasks.classification import Classification, ImageBatch
from datanas.tasks.classifier_head import AuxiliaryTower, ClassifierHead

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow")


def images(count: int, seed: int = 0, size: int = 8) -> ImageSet:
    """Noise, of three classes in turn."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 3)


DATA = ImageData(images(60), images(30, 1), CLASSES)


def task(data: object = DATA, seed: int = 0, **settings: Any) -> Classification:
    """The task on 8x8 images, without the default cutout of 16 pixels."""
    settings = merge({"train_augment": {"cutout": 0}}, settings)
    return Classification(validate(Classification.Config, settings, "task"), data, CPU, seed)


def rows(found: Tensor, data: ImageSet = DATA.train) -> list[int]:
    """Which images of a data set these are."""
    flat = data.images.flatten(1)
    return [int((flat == row).all(dim=1).nonzero()[0]) for row in found.flatten(1)]


def members(made: Classification, part: Part) -> list[int]:
    """The images of a part, from the batches of one pass over it."""
    stream = made._streams[part]
    found = [rows(stream.batch(step)[0]) for step in range(made.steps_per_epoch(part))]
    return sorted(index for batch in found for index in batch)


def test_search_parts_are_disjoint_balanced_and_all_there_is() -> None:
    made = task()
    made.split_search("1:1", 6, None)
    weights, alpha = members(made, "weights"), members(made, "alpha")
    assert sorted(weights + alpha) == list(range(60))
    for part in (weights, alpha):
        assert torch.bincount(DATA.train.labels[part]).tolist() == [10, 10, 10]


def test_search_parts_have_the_ratio_that_is_asked_for() -> None:
    made = task()
    made.split_search("2:1", 4, None)
    assert (len(members(made, "weights")), len(members(made, "alpha"))) == (40, 20)


def test_a_search_may_use_a_balanced_share_of_the_images() -> None:
    made = task()
    made.split_search("1:1", 6, 24)
    together = members(made, "weights") + members(made, "alpha")
    assert len(set(together)) == 24
    assert torch.bincount(DATA.train.labels[together]).tolist() == [8, 8, 8]


def test_a_share_that_leaves_a_class_out_is_refused() -> None:
    with pytest.raises(DataError, match=r"search\.examples: 5 is too few for 3 classes"):
        task().split_search("1:1", 2, 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_depend_on_the_seed_alone(seed: int) -> None:
    first, again, other = task(seed=seed), task(seed=seed), task(seed=seed + 7)
    for made in (first, again, other):
        made.split_search("1:1", 6, 24)
    assert members(first, "weights") == members(again, "weights")
    assert members(first, "weights") != members(other, "weights")


def test_the_held_out_share_is_balanced_and_not_trained_on() -> None:
    made = task()
    made.split_train(0.2, 6)
    trained = members(made, "train")
    assert len(trained) == 48
    seen: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 3)

    made.evaluate(spy, "validation")
    held_out = [normalised_row(x) for x in torch.cat(seen)]
    assert len(held_out) == 12
    assert not set(held_out) & set(trained)
    assert torch.bincount(DATA.train.labels[held_out]).tolist() == [4, 4, 4]


def normalised_row(x: Tensor) -> int:
    every = normalise(DATA.train.images, DATA.mean, DATA.std)
    return int((every - x).flatten(1).abs().amax(dim=1).argmin())


def test_without_a_held_out_share_everything_is_trained_on() -> None:
    made = task()
    made.split_train(0.0, 6)
    assert members(made, "train") == list(range(60))


@pytest.mark.parametrize("part", ["weights", "alpha"])
def test_a_batch_is_a_function_of_its_step(part: Any) -> None:
    first, second = task(), task()
    for made in (first, second):
        made.split_search("1:1", 6, None)
    # In another order, and with other calls between.
    forward = [first.batch(part, step).images for step in (0, 1, 5, 11)]
    second.batch("weights", 3)
    backward = [second.batch(part, step).images for step in (11, 5, 1, 0)]
    for one, other in zip(forward, reversed(backward), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(forward[0], forward[1])


def test_batches_carry_their_labels_and_their_part() -> None:
    plain = {"crop_padding": 0, "flip": False}
    made = task(search_augment=plain)
    made.split_search("1:1", 6, None)
    batch = made.batch("alpha", 2)
    assert batch.part == "alpha"
    indices = [normalised_row(x) for x in batch.images]
    assert torch.equal(DATA.train.labels[indices], batch.labels)


def test_searching_and_training_have_their_own_augmentation() -> None:
    plain = {"crop_padding": 0, "flip": False}
    made = task(search_augment=plain, train_augment={**plain, "cutout": 4})
    made.split_search("1:1", 6, None)
    made.split_train(0.0, 6)
    every = normalise(DATA.train.images, DATA.mean, DATA.std)
    searching, training = made.batch("weights", 0).images, made.batch("train", 0).images
    assert all((every - x).flatten(1).abs().amax(dim=1).min() == 0 for x in searching)
    assert all((every - x).flatten(1).abs().amax(dim=1).min() > 0 for x in training)
    assert all((x == 0).all(dim=0).sum() >= 4 for x in training)


def test_a_cutout_that_leaves_nothing_of_an_image_is_refused() -> None:
    made = task(train_augment={"cutout": 16})
    with pytest.raises(ConfigError, match=r"task\.train_augment\.cutout"):
        made.split_train(0.0, 6)


def test_evaluation_does_not_augment() -> None:
    made = task(search_augment={"crop_padding": 4}, train_augment={"cutout": 8})
    made.split_search("1:1", 6, None)
    every = normalise(DATA.test.images, DATA.mean, DATA.std)
    seen: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 3)

    made.evaluate(spy, "test")
    assert torch.equal(torch.cat(seen).sort(dim=0).values, every.sort(dim=0).values)


def test_batches_of_an_evaluation_mix_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of data that lies class by class: a network may take its statistics from the batch."""
    monkeypatch.setattr("datanas.tasks.image_task.EVALUATION_BATCH", 10)
    order = DATA.test.labels.argsort(stable=True)
    made = task(ImageData(DATA.train, DATA.test.select(order), CLASSES))
    every = normalise(DATA.test.images, DATA.mean, DATA.std)
    classes: list[set[int]] = []

    def spy(x: Tensor) -> Tensor:
        found = [int((every - image).flatten(1).abs().amax(dim=1).argmin()) for image in x]
        classes.append(set(DATA.test.labels[found].tolist()))
        return torch.zeros(len(x), 3)

    made.evaluate(spy, "test")
    assert classes == [{0, 1, 2}] * 3


LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
OTHER = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))
LABELS = torch.tensor([0, 1, 2, 0])


def batch(part: Any) -> ImageBatch:
    return ImageBatch(torch.zeros(4, 3, 8, 8), LABELS, part)


def cross_entropy(logits: Tensor, smoothing: float = 0.0) -> float:
    """By the definition: smoothing takes that share of the target and spreads it over all classes."""
    target = F.one_hot(LABELS, 3) * (1 - smoothing) + smoothing / 3
    return float(-(target * logits.log_softmax(dim=1)).sum(dim=1).mean())


def test_the_loss_is_the_cross_entropy() -> None:
    assert float(task().loss(lambda x: LOGITS, batch("weights"))) == pytest.approx(cross_entropy(LOGITS))


def test_an_auxiliary_output_adds_its_weighted_loss() -> None:
    loss = task(auxiliary_weight=0.3).loss(lambda x: (LOGITS, OTHER), batch("train"))
    assert float(loss) == pytest.approx(cross_entropy(LOGITS) + 0.3 * cross_entropy(OTHER))


def test_labels_are_smoothed_while_training_and_not_while_searching() -> None:
    made = task(label_smoothing=0.2)
    assert float(made.loss(lambda x: LOGITS, batch("train"))) == pytest.approx(cross_entropy(LOGITS, 0.2))
    for part in ("weights", "alpha"):
        assert float(made.loss(lambda x: LOGITS, batch(part))) == pytest.approx(cross_entropy(LOGITS))


def test_the_loss_of_half_precision_outputs_is_taken_in_full() -> None:
    loss = task().loss(lambda x: LOGITS.bfloat16(), batch("weights"))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(cross_entropy(LOGITS.bfloat16().float()))


def by_brightness(x: Tensor) -> Tensor:
    """A fixed rule, different for every image."""
    return torch.stack([x[:, channel].mean(dim=(1, 2)) for channel in range(3)], dim=1)


def test_accuracy_and_loss_are_those_counted_by_hand() -> None:
    figures = task().evaluate(by_brightness, "test")
    logits = by_brightness(normalise(DATA.test.images, DATA.mean, DATA.std))
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, DATA.test.labels, strict=True))
    assert 0 < right < 30
    assert figures["accuracy"] == right / 30
    assert figures["loss"] == pytest.approx(float(F.cross_entropy(logits, DATA.test.labels)))


def test_top_5_is_counted_by_hand_where_there_are_more_classes() -> None:
    train, test = (replace(part, labels=torch.arange(len(part)) % 7) for part in (DATA.train, DATA.test))
    data = ImageData(train, test, tuple("abcdefg"))
    logits = torch.randn(7, generator=torch.Generator().manual_seed(0))
    found = task(data).evaluate(lambda x: logits.expand(len(x), -1), "test")
    likeliest = logits.argsort(descending=True)[:5].tolist()
    assert found["top5"] == pytest.approx(sum(label in likeliest for label in data.test.labels.tolist()) / 30)
    assert found["accuracy"] == pytest.approx(sum(label == likeliest[0] for label in data.test.labels.tolist()) / 30)


def test_of_few_classes_top_5_would_say_nothing() -> None:
    assert "top5" not in task().evaluate(lambda x: torch.zeros(len(x), 3), "test")


@pytest.mark.parametrize(
    ("stem", "size", "fits"), [("imagenet", 31, False), ("imagenet", 32, True), ("cifar", 3, False)]
)
def test_images_that_are_smaller_than_a_network_s_stride_are_refused(stem: str, size: int, fits: bool) -> None:
    data = ImageData(images(6, size=size), images(3, size=size), CLASSES)
    if fits:
        assert task(data, stem=stem).example_shape == (3, size, size)
    else:
        with pytest.raises(ConfigError, match=rf"task\.stem: .* stem {stem} divides .*, but these images have {size} "):
            task(data, stem=stem)


def test_batches_of_an_evaluation_do_not_change_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last batch may be short; every image counts once."""
    whole = task().evaluate(by_brightness, "test")
    monkeypatch.setattr("datanas.tasks.image_task.EVALUATION_BATCH", 7)
    pieces = task().evaluate(by_brightness, "test")
    assert pieces["accuracy"] == whole["accuracy"]
    assert pieces["loss"] == pytest.approx(whole["loss"])


def test_no_batch_of_an_evaluation_is_a_single_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.tasks.image_task.EVALUATION_BATCH", 29)
    sizes: list[int] = []
    task().evaluate(lambda x: sizes.append(len(x)) or torch.zeros(len(x), 3), "test")
    assert sum(sizes) == 30
    assert min(sizes) > 1


def seen_by(made: Classification, part: Any, limit: int | None) -> list[int]:
    seen: list[int] = []

    def spy(x: Tensor) -> Tensor:
        every = normalise(DATA.test.images if part == "test" else DATA.train.images, DATA.mean, DATA.std)
        seen.extend(int((every - image).flatten(1).abs().amax(dim=1).argmin()) for image in x)
        return torch.zeros(len(x), 3)

    made.evaluate(spy, part, limit)
    return seen


@pytest.mark.parametrize("part", ["alpha", "test"])
def test_a_limit_takes_a_balanced_share_always_the_same(part: Any) -> None:
    made = task()
    made.split_search("1:1", 6, None)
    everything, some = seen_by(made, part, None), seen_by(made, part, 12)
    assert len(set(some)) == len(some) == 12
    assert set(some) < set(everything)
    labels = DATA.test.labels if part == "test" else DATA.train.labels
    assert torch.bincount(labels[some]).tolist() == [4, 4, 4]
    assert seen_by(made, part, 12) == some


@pytest.mark.parametrize("limit", [30, 31, 1000])
def test_a_limit_above_what_there_is_is_none(limit: int) -> None:
    made = task()
    assert sorted(seen_by(made, "test", limit)) == list(range(30))


def test_evaluating_changes_no_random_number_and_no_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    state = torch.get_rng_state()
    task().evaluate(network, "test", 12)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training


@pytest.mark.parametrize(
    ("stem", "size", "shapes"),
    [
        ("cifar", 8, [(12, 8), (12, 8)]),
        ("cifar", 7, [(12, 7), (12, 7)]),
        ("cifar_half", 8, [(12, 4), (12, 4)]),
        ("cifar_half", 7, [(12, 4), (12, 4)]),
        ("plain", 8, [(4, 8), (4, 8)]),
        ("plain_half", 8, [(4, 4), (4, 4)]),
        ("plain_half", 7, [(4, 4), (4, 4)]),
        ("imagenet", 64, [(4, 16), (4, 8)]),
        ("imagenet", 61, [(4, 16), (4, 8)]),
    ],
)
def test_a_stem_hands_on_what_its_shape_says(stem: str, size: int, shapes: list[tuple[int, int]]) -> None:
    made = Classification.stem(validate(Classification.Config, {"stem": stem}, "task"), 3, 4)
    outputs = made(torch.randn(2, 3, size, size))
    assert [(output.shape[1], output.shape[2]) for output in outputs] == shapes
    assert made.shape.channels == tuple(output.shape[1] for output in outputs)
    assert made.shape.halved == (outputs[0].shape[2] != outputs[1].shape[2])


def test_a_stem_takes_any_number_of_channels() -> None:
    made = Classification.stem(Classification.Config(), 1, 4)
    assert made(torch.randn(2, 1, 8, 8))[0].shape == (2, 12, 8, 8)


@pytest.mark.parametrize("size", [8, 7, 6, 5, 4, 2, 1])
def test_the_auxiliary_tower_takes_any_size(size: int) -> None:
    tower = AuxiliaryTower(6, 10)
    assert tower(torch.randn(2, 6, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("size", "stride"), [(8, 3), (7, 2)])
def test_the_auxiliary_tower_pools_as_darts_does(size: int, stride: int) -> None:
    """5x5 windows, stride 3 at 8x8 and 2 at 7x7, to 2x2."""
    torch.manual_seed(0)
    tower = AuxiliaryTower(6, 10).eval()
    x = torch.randn(2, 6, size, size)
    pooled = nn.AvgPool2d(5, stride=stride, padding=0, count_include_pad=False)(x.relu())
    expected = tower.classifier(tower.features(pooled).flatten(1))
    torch.testing.assert_close(tower(x), expected)


@pytest.mark.parametrize(("stem", "given", "norms"), [("cifar", None, 2), ("imagenet", None, 1), ("imagenet", 2, 2)])
def test_the_auxiliary_tower_has_the_batch_norms_of_its_reference(stem: str, given: int | None, norms: int) -> None:
    """DARTS' tower for ImageNet lacks the second one, of 2 * 768 parameters."""
    settings = Classification.Config(stem=stem, auxiliary_norms=given)
    head = Classification.head(settings, (8, 16), 10)
    parameters = sum(parameter.numel() for parameter in head.get_submodule("auxiliary").parameters())
    assert parameters == 8 * 128 + 2 * 128 + 128 * 768 * 4 + (norms - 1) * 2 * 768 + 768 * 10 + 10


def test_the_auxiliary_tower_is_used_in_training_mode_only() -> None:
    head = ClassifierHead((6, 8), 10)
    features = (torch.randn(2, 6, 8, 8), torch.randn(2, 8, 4, 4))
    logits, auxiliary = head(features)
    assert logits.shape == auxiliary.shape == (2, 10)
    alone = head.eval()(features)
    assert isinstance(alone, Tensor)
    torch.testing.assert_close(alone, head.classifier(features[1].mean(dim=(2, 3))))


def test_a_head_without_tapped_features_has_no_tower() -> None:
    head = ClassifierHead((8,), 10)
    assert head.auxiliary is None
    assert head((torch.randn(2, 8, 4, 4),)).shape == (2, 10)


@pytest.mark.parametrize("size", [8, 5])
def test_a_network_with_a_tower_trains_on_small_images(size: int) -> None:
    network = datanas.build_network(datanas.architecture("gdas"), num_classes=3, channels=2, cells=3, auxiliary=True)
    made = task(ImageData(images(12, size=size), images(6, 1, size), CLASSES))
    made.split_train(0.0, 4)
    loss = made.loss(network, made.batch("train", 0))
    loss.backward()
    gradient = network.get_parameter("head.auxiliary.classifier.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_it_tells_what_it_is_about() -> None:
    made = task()
    assert made.example_shape == (3, 8, 8)
    assert made.num_classes == 3
    assert made.describe() == {"classes": list(CLASSES), "train": 60, "test": 30, "shape": [3, 8, 8]}


@pytest.mark.parametrize("data", [None, "text", DATA.train])
def test_another_kind_of_data_is_refused(data: object) -> None:
    with pytest.raises(ConfigError, match="task classification takes image data sets"):
        task(data)


@pytest.mark.parametrize(
    ("classes", "message"),
    [(("ant",), "only one class; at least two are needed"), (("unlabelled",), "the images have no labels")],
)
def test_one_class_is_too_few(classes: tuple[str, ...], message: str) -> None:
    labels = torch.zeros(len(DATA.train), dtype=torch.int64)
    data = ImageData(DATA.train.with_labels(labels), DATA.train.with_labels(labels), classes)
    with pytest.raises(DataError, match=message):
        task(data)
