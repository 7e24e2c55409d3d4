"""What is told of images that can be learned from all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import ImageSet
from datanas.data.decode.suspect import Examined, examine, examine_set, tell_suspects

CLASSES = ("ant", "bee")


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 4, 5), generator=generator, dtype=torch.uint8)


def part(pixels: Tensor, labels: list[int] | None = None) -> Examined:
    return examine_set(ImageSet(pixels, torch.tensor(labels or [0] * len(pixels))), CLASSES, "{}.png".format)


def told(train: Examined, caplog: pytest.LogCaptureFixture, test: Examined | None = None) -> str:
    tell_suspects({"train": train, "test": test or part(images(3, 9))}, "made up")
    return caplog.text


def test_nothing_is_told_of_sound_images(caplog: pytest.LogCaptureFixture) -> None:
    assert told(part(images(6)), caplog) == ""


def test_images_that_are_tested_on_and_trained_on_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    test = torch.cat([images(2, 9), images(6)[4:]])
    assert "2 of 4 images of the part test are images for training too, such as 2.png, which is 4.png there" in told(
        part(images(6)), caplog, part(test)
    )


def test_one_image_under_two_labels_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pixels = images(4)
    pixels[3] = pixels[1]
    assert "one image is there under several labels, such as 1.png as 'ant' and 3.png as 'bee'" in told(
        part(pixels, [0, 0, 1, 1]), caplog
    )


def test_one_image_with_two_rows_of_targets_is_told_with_these(caplog: pytest.LogCaptureFixture) -> None:
    pixels = images(3)
    pixels[2] = pixels[0]
    assert "image 0 as (1, 0) and image 2 as (0.5, 0)" in told(
        examine(pixels, [(1.0, 0.0), (3.0, 4.0), (0.5, 0.0)]), caplog
    )


def test_one_image_twice_under_one_label_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert told(part(images(4)[[0, 1, 1, 2]]), caplog) == ""


def test_images_without_content_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    pixels = images(5)
    pixels[2] = 7
    assert "1 of 5 images of the part train are of one colour each, the first is 2.png" in told(part(pixels), caplog)


def test_nothing_but_images_without_content_is_refused() -> None:
    with pytest.raises(DataError, match="all 3 images for training are of one colour each"):
        tell_suspects({"train": part(torch.zeros(3, 1, 4, 4, dtype=torch.uint8))}, "made up")


def test_a_channel_that_never_changes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pixels = images(5)
    pixels[:, 1] = 30
    assert "channel 1 is the same in all pixels" in told(part(pixels), caplog)


def test_values_that_are_nearly_black_are_told_with_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    assert "is 1 of 255, which is nearly black; if that is white say --data.white_level 1" in told(
        part(images(5) % 2), caplog, part(images(3, 9) % 2)
    )
