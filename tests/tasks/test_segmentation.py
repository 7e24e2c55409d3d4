"""Segmentation: parts, batches, loss and score of images with masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Pictures
from datanas.core.processes import Processes
from datanas.core.settings import merge, validate
from datanas.data.augment import normalise
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet
from datanas.tasks.mask_task import SegmentationBatch, output_strides
from datanas.tasks.segmentation import Segmentation

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cow")
SIZES = ((8, 8), (8, 12), (16, 9), (8, 8), (12, 8))


def scenes(count: int, seed: int = 0, values: tuple[int, ...] = (0, 1, 2, VOID)) -> SegmentationSet:
    """Noise of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    choice = torch.tensor(values, dtype=torch.uint8)
    sizes = [SIZES[index % len(SIZES)] for index in range(count)]
    images = tuple(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes)
    masks = tuple(choice[torch.randint(0, len(values), size, generator=generator)] for size in sizes)
    return SegmentationSet(images, masks, tuple(f"{index}.png" for index in range(count)))


DATA = SegmentationData(scenes(20), scenes(7, 1), CLASSES)


def task(data: object = DATA, seed: int = 0, **settings: Any) -> Segmentation:
    settings = merge({"crop": 8, "head_channels": 4}, settings)
    return Segmentation(validate(Segmentation.Config, settings, "task"), data, CPU, seed)


def by_brightness(x: Tensor) -> Tensor:
    """Logits that depend on the pixel alone."""
    return torch.stack((x[:, 0], x[:, 1], -x[:, 2]), dim=1)


class ByNeighbours(nn.Module):
    """Logits that depend on the whole image, and on the batch while training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x + x.mean(dim=(2, 3), keepdim=True)


def test_search_parts_are_disjoint_and_all_there_is() -> None:
    made = task()
    made.split_search("3:1", 2, None)
    weights, alpha = (made._chosen[part].tolist() for part in ("weights", "alpha"))
    assert sorted(weights + alpha) == list(range(20))
    assert (len(weights), len(alpha)) == (15, 5)


def test_a_search_may_use_some_of_the_images() -> None:
    made = task()
    made.split_search("1:1", 2, 8)
    assert len({*made._chosen["weights"].tolist(), *made._chosen["alpha"].tolist()}) == 8


def test_a_share_is_held_out() -> None:
    made = task()
    made.split_train(0.25, 4)
    assert len(made._chosen["validation"]) == 5
    assert not set(made._chosen["validation"].tolist()) & set(made._chosen["train"].tolist())
    assert not made.has_validation


def test_data_may_bring_their_own_validation() -> None:
    made = task(SegmentationData(DATA.train, DATA.test, CLASSES, validation=scenes(3, 2)))
    assert made.has_validation
    assert not Segmentation.has_validation
    made.split_train(0.0, 4)
    assert made.evaluate(by_brightness, "validation") != made.evaluate(by_brightness, "test")


def test_a_part_of_one_image_is_refused() -> None:
    with pytest.raises(DataError, match="1 images for the part 'alpha' are too few"):
        task().split_search("2:1", 2, 3)


def test_other_data_and_other_splits_have_other_fingerprints() -> None:
    def fingerprint(data: SegmentationData = DATA, seed: int = 0, **settings: Any) -> str:
        made = task(data, seed, **settings)
        made.split_search("1:1", 2, None)
        return made.fingerprint()

    masks = (DATA.train.masks[0].flip(0), *DATA.train.masks[1:])
    other = SegmentationData(SegmentationSet(DATA.train.images, masks, DATA.train.names), DATA.test, CLASSES)
    found = {fingerprint(), fingerprint(other), fingerprint(seed=1), fingerprint(classes=("bee",))}
    assert len(found) == 4


class OneOf(Processes):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def test_shares_make_up_the_batch() -> None:
    made = task()
    made.split_train(0.0, 6)
    whole = made.batch("train", 1)
    shares = []
    for rank in range(3):
        made.processes = OneOf(rank, 3)
        shares.append(made.batch("train", 1))
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.masks for share in shares]), whole.masks)
    assert sum(share.pixels for share in shares) == pytest.approx(whole.pixels)


def test_a_process_needs_two_images() -> None:
    made = task()
    made.processes = OneOf(0, 4)
    with pytest.raises(ConfigError, match="4 images among 4 processes are too few"):
        made.split_train(0.0, 4)


def test_the_loss_is_the_mean_over_pixels_that_have_a_class() -> None:
    made = task()
    made.split_train(0.0, 6)
    batch = made.batch("train", 0)
    known = batch.masks != VOID
    assert known.any()
    assert not known.all()
    logits = by_brightness(batch.images).permute(0, 2, 3, 1)[known]
    torch.testing.assert_close(made.loss(by_brightness, batch), F.cross_entropy(logits, batch.masks[known].long()))


def test_the_auxiliary_loss_is_weighed() -> None:
    made = task(auxiliary_weight=0.5)
    made.split_train(0.0, 6)
    batch = made.batch("train", 0)
    alone = made.loss(by_brightness, batch)
    torch.testing.assert_close(made.loss(lambda x: (by_brightness(x), by_brightness(x)), batch), 1.5 * alone)


def test_a_batch_without_labels_gives_no_loss_and_a_gradient_of_zero() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    batch = SegmentationBatch(torch.zeros(2, 3, 4, 4), torch.full((2, 4, 4), VOID, dtype=torch.uint8), 0.0)
    loss = task().loss(lambda x: logits, batch)
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_shuffled_masks_are_those_of_other_images() -> None:
    made = task()
    before = [mask.clone() for mask in made.data.train.masks]
    made.shuffle_labels()
    assert [mask.shape for mask in made.data.train.masks] == [mask.shape for mask in before]
    assert sum(not torch.equal(*pair) for pair in zip(made.data.train.masks, before, strict=True)) > 15


def expected_iou(data: SegmentationSet, scored: tuple[int, ...], model: Callable[[Tensor], Tensor]) -> dict[int, float]:
    """Image by image, in sets of pixels."""
    made = task()
    union = dict.fromkeys(scored, 0)
    both = dict.fromkeys(scored, 0)
    for image, mask in zip(data.images, data.masks, strict=True):
        x = (image.float() / 255 - made.data.mean[:, None, None]) / made.data.std[:, None, None]
        predicted = model(x[None])[0].argmax(0)
        counted = torch.isin(mask, torch.tensor(scored, dtype=torch.uint8))
        for label in scored:
            taken, true = counted & (predicted == label), counted & (mask == label)
            union[label] += int((taken | true).sum())
            both[label] += int((taken & true).sum())
    return {label: both[label] / union[label] for label in scored if union[label]}


def test_the_score_is_the_mean_over_classes_of_the_whole_part() -> None:
    expected = expected_iou(DATA.test, (0, 1, 2), by_brightness)
    found = task().evaluate(by_brightness, "test")
    assert found["miou"] == pytest.approx(sum(expected.values()) / 3)
    assert [found[f"iou/{name}"] for name in CLASSES] == pytest.approx(list(expected.values()))


def test_classes_that_are_not_scored_count_as_void() -> None:
    expected = expected_iou(DATA.test, (0, 2), by_brightness)
    found = task(classes=("cow", "ant")).evaluate(by_brightness, "test")
    assert found["miou"] == pytest.approx(sum(expected.values()) / 2)
    assert "iou/bee" not in found


def test_absent_classes_are_left_out_and_are_not_named() -> None:
    data = SegmentationData(DATA.train, scenes(3, values=(0, 1)), CLASSES)
    found = task(data).evaluate(lambda x: torch.stack((x[:, 0], x[:, 1], x[:, 2] - 99), dim=1), "test")
    assert set(found) == {"miou", "loss", "pixel_accuracy", "iou/ant", "iou/bee"}
    assert found["miou"] == pytest.approx((found["iou/ant"] + found["iou/bee"]) / 2)
    taken = task(data).evaluate(lambda x: torch.stack((x[:, 0], x[:, 1], x[:, 2] + 99), dim=1), "test")
    assert taken["iou/cow"] == 0


def test_figures_do_not_depend_on_how_many_are_measured_together(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = ByNeighbours().eval()
    together = task().evaluate(model, "test")
    monkeypatch.setattr("datanas.tasks.segmentation.EVALUATION_PIXELS", 1)
    assert task().evaluate(model, "test") == pytest.approx(together)


def test_a_network_with_statistics_of_the_batch_can_be_measured_on_an_image_alone() -> None:
    """As the supernet is, by the gap meter."""
    made = task(SegmentationData(DATA.train, scenes(2), CLASSES))
    found = made.evaluate(lambda x: nn.BatchNorm2d(3)(x.mean(dim=(2, 3), keepdim=True)).expand_as(x), "test")
    assert math.isfinite(found["loss"])


class Noted(OneOf):
    """Keeps what is to be added up over the processes."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self.given: list[Tensor] = []

    def total(self, tensor: Tensor) -> Tensor:
        self.given.append(tensor)
        return tensor


def test_counts_of_two_processes_add_up_to_those_of_one() -> None:
    """So do the shares by which images are shown."""
    alone, *both = (Noted(0, 1), Noted(0, 2), Noted(1, 2))
    for processes in (alone, *both):
        made = task()
        made.processes = processes
        made.evaluate_fully(by_brightness, "test")
    assert len(alone.given) == 2
    for one, first, second in zip(alone.given, both[0].given, both[1].given, strict=True):
        torch.testing.assert_close(first + second, one)
    assert not torch.equal(both[0].given[0], alone.given[0])


def test_the_images_of_which_most_is_wrong_are_shown_first() -> None:
    made = task()
    found = made.evaluate_fully(by_brightness, "test")
    assert found.figures == made.evaluate(by_brightness, "test")
    _, pictures = found.exhibits()
    assert isinstance(pictures, Pictures)
    shares = []
    for image, mask in zip(DATA.test.images, DATA.test.masks, strict=True):
        taken = by_brightness(normalise(image[None], DATA.mean, DATA.std)).argmax(dim=1)[0]
        shares.append(float((taken != mask)[mask != VOID].float().mean()))
    assert [each.caption for each in pictures.pictures] == [
        f"{share:.0%} of its pixels wrong" for share in sorted(shares, reverse=True)
    ]


def test_a_limit_takes_some_images() -> None:
    made = task()
    assert made.evaluate(by_brightness, "test", 3) != made.evaluate(by_brightness, "test")
    assert made.evaluate(by_brightness, "test", 7) == made.evaluate(by_brightness, "test")


def test_views_are_for_the_last_measuring_only() -> None:
    made = task(test_scales=(1.0, 0.5), test_flip=True)
    made.split_search("1:1", 4, None)
    torch.manual_seed(0)
    model = ByNeighbours().eval()
    assert made.evaluate(model, "test") != made.monitor(model, "test")
    assert task().evaluate(model, "test") == made.monitor(model, "test")
    plain = task()
    plain.split_search("1:1", 4, None)
    assert made.evaluate(model, "alpha") == plain.evaluate(model, "alpha")


def test_images_that_are_wholly_void_change_nothing() -> None:
    void = scenes(2, 5, values=(VOID,))
    more = SegmentationSet(*(getattr(DATA.test, name) + getattr(void, name) for name in ("images", "masks", "names")))
    found = task(SegmentationData(DATA.train, more, CLASSES)).evaluate(by_brightness, "test")
    assert found == task().evaluate(by_brightness, "test")


def test_a_test_part_without_scored_pixels_is_refused() -> None:
    data = SegmentationData(DATA.train, scenes(3, values=(0, 1)), CLASSES)
    with pytest.raises(DataError, match="no pixel of the 3 images of the part 'test' is of a class that is scored"):
        task(data, classes=("cow",))


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.classes: the data have no class 'cat'"):
        task(classes=("ant", "cat"))


def test_images_smaller_than_the_stride_are_refused() -> None:
    with pytest.raises(DataError, match=r"train image 0\.png is 8x8, but stem imagenet .* by 32"):
        task(stem="imagenet", crop=32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stem": "cifar", "output_stride": 8}, "output_stride: stem cifar allows 4, 2, 1, got 8"),
        ({"stem": "imagenet", "crop": 31}, "crop: stem imagenet needs at least 32, got 31"),
        ({"atrous_rates": []}, "atrous_rates"),
        ({"test_scales": [0.0]}, "test_scales"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Segmentation.Config, settings, "task")


def test_output_strides_halve_with_each_dense_reduction() -> None:
    assert output_strides("imagenet") == {32: 0, 16: 1, 8: 2}


@pytest.mark.parametrize(("crop", "lighter"), [(160, [96, 64]), (80, [64]), (64, []), (8, [])])
def test_lighter_settings_are_smaller_crops(crop: int, lighter: list[int]) -> None:
    assert [settings["task"]["crop"] for settings in task(crop=crop).lighter_settings()] == lighter
