"""A transform of one's own on training images: image by image, keyed, and refused where it gives something else."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.data.augment import Augment, augment
from datanas.data.own_transform import require_transform, transformed
from datanas.tasks.classification import Classification
from datanas.testing.tiny_data import tiny_images

HERE = __name__
noisy = v2.Compose([v2.RandomHorizontalFlip(), v2.Lambda(lambda image: (image + torch.rand(1)).clamp(0, 1))])


def darker(image: Tensor) -> Tensor:
    return image * 0.5


def erases(image: Tensor) -> Tensor:
    return image.zero_()


def smaller(image: Tensor) -> Tensor:
    return image[:, 1:]


def bytes_of(image: Tensor) -> Tensor:
    return (image * 255).byte()


def array(image: Tensor) -> Any:
    return image.numpy()


def divides(image: Tensor) -> Tensor:
    return image / 0


def fails(image: Tensor) -> Tensor:
    raise KeyError("pixels")


def mean_and_deviation(channels: int = 3) -> tuple[Tensor, Tensor]:
    return torch.full((channels,), 0.25), torch.full((channels,), 0.5)


def augmented(name: str | None, images: Tensor, **more: Any) -> Tensor:
    settings = Augment(crop_padding=0, flip=False, transform=name)
    return augment(images, settings, *mean_and_deviation(), seeding.generator(0, "test"), **more)


def test_images_come_in_0_to_1_and_are_normalised_afterwards() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    found = augmented(f"{HERE}:darker", images)
    torch.testing.assert_close(found, (images.float() / 255 * 0.5 - 0.25) / 0.5)


def test_each_image_has_draws_of_its_own() -> None:
    images = torch.zeros(16, 3, 4, 4)
    found = transformed(images, f"{HERE}:noisy", range(16))
    assert len({float(image[0, 0, 0]) for image in found}) == 16


def test_draws_depend_on_the_number_of_the_image_alone() -> None:
    images = torch.rand(6, 3, 4, 4)
    whole = transformed(images, f"{HERE}:noisy", range(6))
    torch.manual_seed(random.randrange(1000))
    assert torch.equal(transformed(images[3:], f"{HERE}:noisy", range(3, 6)), whole[3:])


def test_a_share_of_a_batch_is_what_it_is_in_the_whole_batch() -> None:
    images = torch.rand(6, 3, 4, 4)
    whole = augmented(f"{HERE}:noisy", images)
    share = augmented(f"{HERE}:noisy", images[2:4], whole=6, share=slice(2, 4))
    assert torch.equal(share, whole[2:4])


def test_torch_s_own_generator_stands_where_it_stood() -> None:
    images, before = torch.zeros(2, 3, 4, 4), torch.get_rng_state()
    transformed(images, f"{HERE}:noisy", range(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_that_is_changed_in_place_stays_what_it_was() -> None:
    images = torch.rand(2, 3, 4, 4)
    kept = images.clone()
    assert not transformed(images, f"{HERE}:erases", range(2)).any()
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smaller", r"must give a float tensor \(3, 8, 8\) like .*, gave float32 \(3, 7, 8\)"),
        ("bytes_of", "gave uint8"),
        ("array", "gave ndarray"),
        ("divides", "not finite"),
        ("fails", "KeyError: 'pixels'"),
    ],
)
def test_what_gives_no_such_image_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        require_transform(f"{HERE}:{name}", (3, 8, 8), "task.train_augment.transform")
    assert str(error.value).startswith("task.train_augment.transform: ")


def test_a_task_refuses_it_before_its_first_batch() -> None:
    settings = {"train_augment": {"transform": f"{HERE}:smaller"}}
    with pytest.raises(ConfigError, match=r"^task\.train_augment\.transform: "):
        Classification(validate(Classification.Config, settings, "task"), tiny_images(), torch.device("cpu"), 0)


def test_only_images_to_learn_from_are_transformed() -> None:
    def seen(**settings: Any) -> tuple[Tensor, list[Tensor]]:
        config = validate(Classification.Config, {"stem": "plain", **settings}, "task")
        task = Classification(config, tiny_images(), torch.device("cpu"), 0)
        task.split_train(0.0, 20)
        measured: list[Tensor] = []

        def model(x: Tensor) -> Tensor:
            measured.append(x)
            return torch.zeros(len(x), 3)

        task.evaluate(model, "test")
        return task.batch("train", 0).images, measured

    plain, transformed_ones = seen(), seen(train_augment={"cutout": 16, "transform": f"{HERE}:darker"})
    assert not torch.equal(plain[0], transformed_ones[0])
    assert all(map(torch.equal, plain[1], transformed_ones[1]))
