"""A transform of one's own on training images, such as one of torchvision v2: image by image, keyed each.

Shapes: b images, c channels, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.own_function import find_function
from datanas.core.torch_draws import process_generator

_TRIED = 4


def transformed(images: Float[Tensor, "b c h w"], name: str, numbers: Sequence[int]) -> Float[Tensor, "b c h w"]:
    """Each image as the transform gives it.

    It is called with one image at a time, since transforms that are given a batch draw once for all of it. What it
    draws from torch's generators depends on the image's number alone.

    Args:
        name: of the transform, `module:attribute`.
        numbers: one an image.

    Raises:
        ConfigError: it fails, or gives something else than an image of the same shape, type and device.
    """
    function = find_function(name)
    generators = [process_generator(device) for device in {torch.device("cpu"), images.device}]
    results = []
    with seeding.keyed(0, "transform", reach="process"):
        for image, number in zip(images, numbers, strict=True):
            for generator in generators:
                generator.manual_seed(number)
            try:
                given: Any = function(image.clone())
            except Exception as error:
                shape = tuple(image.shape)
                raise ConfigError(
                    f"transform {name}: fails on a float image {shape} in 0..1: {type(error).__name__}: {error}"
                ) from error
            if fault := _fault(given, image):
                raise ConfigError(f"transform {name}: {fault}")
            results.append(given.as_subclass(Tensor))
    return torch.stack(results)


def require_transform(name: str, shape: tuple[int, ...], setting: str) -> None:
    """Refuse a transform that cannot be used on such images.

    Args:
        shape: (c, h, w).
        setting: begins a message ("task.train_augment.transform").

    Raises:
        ConfigError: it fails on made-up images, or does not give images like them.
    """
    images = torch.rand(_TRIED, *shape, generator=seeding.generator(0, "transform"))
    try:
        results = transformed(images, name, range(_TRIED))
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error
    if not results.isfinite().all():
        raise ConfigError(f"{setting}: {name} gives pixels that are not finite for a float image in 0..1")


def _fault(given: Any, image: Tensor) -> str:
    """What keeps this from standing in an image's place; empty where nothing does."""
    wanted = f"a float tensor {tuple(image.shape)} like the image that it is called with"
    if not isinstance(given, Tensor):
        return f"must give {wanted}, gave {type(given).__name__}"
    if given.shape != image.shape or given.dtype != image.dtype or given.device != image.device:
        got = f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)} on {given.device}"
        return f"must give {wanted}, gave {got}"
    return ""
