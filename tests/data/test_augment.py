from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, adjust_saturation

from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.data.augment import Augment, Moves, augment, change_colours, draw_moves, normalise

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.1])
CPU = torch.device("cpu")


def keyed(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(dtype: torch.dtype = torch.uint8, count: int = 16, size: tuple[int, int] = (9, 7)) -> Tensor:
    images = torch.rand(count, 3, *size, generator=keyed(1), dtype=torch.float64)
    return (images * 255).to(dtype) if dtype == torch.uint8 else images.to(dtype)


def reference(images: Tensor, settings: Augment, moves: Moves) -> Tensor:
    """The same, image by image and in double, with loops over the pixels of the hole."""
    results = []
    scale = 255 if images.dtype == torch.uint8 else 1
    for index, image in enumerate(images):
        height, width = image.shape[1:]
        padding = settings.crop_padding
        padded = torch.zeros(3, height + 2 * padding, width + 2 * padding, dtype=torch.float64)
        padded[:, padding : padding + height, padding : padding + width] = image.double() / scale
        top, left = int(moves.top[index]), int(moves.left[index])
        result = padded[:, top : top + height, left : left + width]
        if moves.mirrored[index]:
            result = result.flip(2)
        result = (result - MEAN.double()[:, None, None]) / STD.double()[:, None, None]
        y0 = int(moves.hole_y[index]) - settings.cutout // 2
        x0 = int(moves.hole_x[index]) - settings.cutout // 2
        for y in range(y0, y0 + settings.cutout):
            for x in range(x0, x0 + settings.cutout):
                if 0 <= y < height and 0 <= x < width:
                    result[:, y, x] = 0
        results.append(result)
    return torch.stack(results).float()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "settings",
    [
        Augment(flip=True),
        Augment(cutout=4, flip=True),
        Augment(cutout=5, flip=False),
        Augment(crop_padding=0, cutout=3, flip=True),
        Augment(crop_padding=0, flip=False),
        Augment(crop_padding=12, flip=True),
        Augment(cutout=100, flip=True),
    ],
)
def test_every_image_is_moved_as_drawn(dtype: torch.dtype, settings: Augment) -> None:
    images = batch(dtype)
    before = images.clone()
    moves = draw_moves(16, (9, 7), settings, keyed(), CPU)
    result = augment(images, settings, MEAN, STD, keyed())
    assert torch.equal(images, before)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, reference(images, settings, moves), rtol=1e-5, atol=1e-5)


def test_moves_cover_their_range_and_differ_between_images() -> None:
    moves = draw_moves(4000, (9, 7), Augment(crop_padding=2, flip=True), keyed(), CPU)
    for drawn, bound in zip(moves, (5, 5, 2, 9, 7), strict=True):
        assert drawn.unique().tolist() == list(range(bound))
        assert drawn.double().mean() == pytest.approx((bound - 1) / 2, abs=0.15)
    assert not torch.equal(moves.top, moves.left)


def test_switching_one_move_off_leaves_the_others() -> None:
    full = draw_moves(32, (9, 7), Augment(cutout=4, flip=True), keyed(), CPU)
    plain = draw_moves(32, (9, 7), Augment(flip=False), keyed(), CPU)
    assert full.mirrored.any()
    assert not plain.mirrored.any()
    for name in ("top", "left", "hole_y", "hole_x"):
        assert torch.equal(getattr(full, name), getattr(plain, name))


def test_the_generator_alone_decides() -> None:
    first, again, other = (augment(batch(), Augment(cutout=4), MEAN, STD, keyed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_order_in_memory_of_the_input_does_not_matter() -> None:
    images = batch()
    expected = augment(images, Augment(cutout=4), MEAN, STD, keyed())
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(strided, Augment(cutout=4), MEAN, STD, keyed()), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalise_is_the_formula(dtype: torch.dtype) -> None:
    images = batch(dtype)
    before = images.clone()
    result = normalise(images, MEAN, STD)
    scale = 255 if dtype == torch.uint8 else 1
    expected = (images.double() / scale - MEAN.double()[:, None, None]) / STD.double()[:, None, None]
    torch.testing.assert_close(result, expected.float())
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_unsuitable_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 or floating, got torch\.int64"):
        normalise(batch().long(), MEAN, STD)
    with pytest.raises(ValueError, match="images have 1 channels, mean 3 and std 3"):
        augment(batch()[:, :1], Augment(), MEAN, STD, keyed())


@pytest.mark.parametrize("name", ["crop_padding", "cutout", "colour"])
def test_negative_settings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"augment.{name}: must be at least 0(\\.0)?, got -1"):
        validate(Augment, {name: -1}, "augment")


def test_colours_change_as_those_of_torchvision() -> None:
    images = torch.rand(4, 3, 9, 7, generator=keyed())
    brightness, contrast, saturation = torch.rand(3, 4, generator=keyed(1)) + 0.5
    found = change_colours(images, brightness, contrast, saturation)
    for image, result, *factors in zip(images, found, brightness, contrast, saturation, strict=True):
        for adjust, factor in zip((adjust_brightness, adjust_contrast, adjust_saturation), factors, strict=True):
            image = adjust(image, float(factor))
        torch.testing.assert_close(result, image, rtol=1e-3, atol=1e-3)  # its grey has four digits


@pytest.mark.parametrize("channels", [1, 3])
def test_no_change_of_colour_is_none(channels: int) -> None:
    images = torch.rand(4, channels, 9, 7, generator=keyed())
    torch.testing.assert_close(change_colours(images, *torch.ones(3, 4)), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_changed_colours_leave_the_other_moves(dtype: torch.dtype) -> None:
    images = batch(dtype)
    plain = augment(images, Augment(cutout=4), MEAN, STD, keyed())
    slight = augment(images, Augment(cutout=4, colour=1e-4), MEAN, STD, keyed())
    strong = augment(images, Augment(cutout=4, colour=0.9), MEAN, STD, keyed())
    torch.testing.assert_close(slight, plain, rtol=0, atol=1e-2)
    assert (strong - plain).abs().max() > 0.5


def test_a_share_of_a_batch_has_the_colours_that_it_has_in_it() -> None:
    images, settings = batch(), Augment(colour=0.5)
    whole = augment(images, settings, MEAN, STD, keyed())
    share = augment(images[2:5], settings, MEAN, STD, keyed(), whole=len(images), share=slice(2, 5))
    torch.testing.assert_close(share, whole[2:5])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_cpu_gives_from_a_generator_on_the_cpu() -> None:
    settings = Augment(cutout=4)
    expected = augment(batch(), settings, MEAN, STD, keyed())
    result = augment(batch().cuda(), settings, MEAN, STD, keyed())
    assert result.device.type == "cuda"
    torch.testing.assert_close(result.cpu(), expected)


@pytest.mark.parametrize(
    ("flip", "bears", "mirrors"), [(None, True, True), (None, False, False), (True, False, True), (False, True, False)]
)
def test_the_data_say_whether_to_mirror_where_the_settings_do_not(
    flip: bool | None, bears: bool, mirrors: bool
) -> None:
    assert Augment(flip=flip).settled(bears_mirroring=bears).flip is mirrors


def test_what_nobody_settled_mirrors_nothing() -> None:
    assert not draw_moves(100, (9, 7), Augment(), keyed(), CPU).mirrored.any()
