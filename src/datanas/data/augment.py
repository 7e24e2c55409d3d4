"""Random crop, flip, colour and cutout of a whole batch at once, and normalisation.

Shapes: b images, c channels, h x w pixels. No loop runs over the batch, and everything runs on the images' device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from datanas.core.own_function import OwnFunction
from datanas.core.settings import Section
from datanas.data.own_transform import transformed

GREY = (0.299, 0.587, 0.114)
Batch = UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]


class Augment(Section):
    """What is done to training images; the defaults are those of a search on CIFAR-10."""

    crop_padding: int = Field(
        default=4,
        ge=0,
        description="black pixels around the image before it is cropped to its size; images that a data set cuts out "
        "at random are left as they are",
    )
    flip: bool | None = Field(
        default=None,
        description="mirror every second image, at random; null: where the data set is known to bear it, as "
        "photographs do and characters do not",
    )
    colour: float = Field(
        default=0.0, ge=0, lt=1, description="brightness, contrast and saturation are changed by up to this share"
    )
    cutout: int = Field(default=0, ge=0, description="side of the square that is blanked, in pixels")
    transform: OwnFunction = Field(
        default=None,
        description="a transform of one's own as module:attribute, such as a Compose of torchvision v2: of each image "
        "(channels, h, w) in 0..1, after crop, flip and colour and before it is normalised",
    )

    def settled(self, *, bears_mirroring: bool) -> Augment:
        """The same with `flip` said: by these settings, or else by what is known of the data."""
        return self if self.flip is not None else self.model_copy(update={"flip": bears_mirroring})


class Moves(NamedTuple):
    """The random choices for a batch: the crop's corner in the padded image, mirrored or not, the hole's centre."""

    top: Int64[Tensor, " b"]
    left: Int64[Tensor, " b"]
    mirrored: Bool[Tensor, " b"]
    hole_y: Int64[Tensor, " b"]
    hole_x: Int64[Tensor, " b"]


def draw_moves(
    batch: int, size: tuple[int, int], settings: Augment, generator: torch.Generator, device: torch.device
) -> Moves:
    """Draw a batch's moves where `generator` lives and bring them to `device`.

    All are drawn whatever the settings, so that switching one off leaves the others as they were. A `flip` that nobody
    has settled mirrors nothing.

    Args:
        size: (h, w).
    """
    uniform = torch.rand(5, batch, generator=generator, device=generator.device)
    offsets = 2 * settings.crop_padding + 1
    bounds = torch.tensor([offsets, offsets, 2, *size], device=generator.device)
    top, left, mirrored, hole_y, hole_x = (uniform * bounds[:, None]).long().to(device)
    return Moves(top, left, mirrored.bool() & bool(settings.flip), hole_y, hole_x)


def augment(
    images: Batch,
    settings: Augment,
    mean: Float[Tensor, " c"],
    std: Float[Tensor, " c"],
    generator: torch.Generator,
    *,
    whole: int | None = None,
    share: slice = slice(None),
) -> Float32[Tensor, "b c h w"]:
    """Pad with black, crop, mirror, change the colours, normalise, then blank a square: in DARTS' order.

    A transform of one's own sees the images before they are normalised.

    Args:
        images: uint8 in 0..255 or floating in 0..1.
        mean, std: the channels' statistics in 0..1.
        generator: on the CPU or on the images' device; two calls from the same state give the same result.
        whole, share: where the images are a share of a batch of `whole`: they become what they would in it.

    Returns:
        float32 in channels-last memory. The square is cut off at the border and 0, the normalised mean.

    Raises:
        ValueError: images that are neither uint8 nor floating, or statistics of another number of channels.
        ConfigError: the transform gives no such images.
    """
    batch, _, height, width = images.shape
    drawn = draw_moves(batch if whole is None else whole, (height, width), settings, generator, images.device)
    moves = Moves(*(each[share] for each in drawn))
    if settings.crop_padding or settings.flip:
        images = _crop(images, moves, settings.crop_padding)
    if settings.colour:
        factors = torch.rand(3, batch if whole is None else whole, generator=generator, device=generator.device)
        factors = 1 + settings.colour * (2 * factors[:, share].to(images.device) - 1)
        images = change_colours(to_unit(images), *factors)
    if settings.transform is not None:
        count = batch if whole is None else whole
        numbers = torch.randint(2**62, (count,), generator=generator, device=generator.device)[share].tolist()
        images = transformed(to_unit(images), settings.transform, numbers)
    result = _standardise(images, mean, std)
    if settings.cutout:
        rows = _hole(moves.hole_y, height, settings.cutout)
        columns = _hole(moves.hole_x, width, settings.cutout)
        result *= ~(rows[:, None, :, None] & columns[:, None, None, :])
    return result.contiguous(memory_format=torch.channels_last)


def change_colours(
    images: Float[Tensor, "b c h w"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """Scale each image's values, then their distance to its mean grey, then each pixel's distance to its own grey.

    All are 1 for no change, and values are kept in 0..1 after each, as torchvision's `ColorJitter` does. Grey is
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); an image of one channel is grey already.
    """
    images = (images * brightness[:, None, None, None]).clamp(0, 1)
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    images = torch.lerp(mean, images, contrast[:, None, None, None]).clamp(0, 1)
    return torch.lerp(_grey(images), images, saturation[:, None, None, None]).clamp(0, 1)


def _grey(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    if images.shape[1] != len(GREY):
        return images.mean(dim=1, keepdim=True)
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(GREY))[:, None]


def to_unit(images: Batch) -> Float[Tensor, "b c h w"]:
    """The values in 0..1, as floating numbers.

    Raises:
        ValueError: images that are neither uint8 nor floating.
    """
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or floating, got {images.dtype}")
    return images.float() / 255 if images.dtype == torch.uint8 else images


def normalise(images: Batch, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> Float32[Tensor, "b c h w"]:
    """(images - mean) / std with images scaled to 0..1, as float32 in channels-last memory.

    Raises:
        ValueError: images that are neither uint8 nor floating, or statistics of another number of channels.
    """
    return _standardise(images, mean, std).contiguous(memory_format=torch.channels_last)


def normalisation(mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> dict[str, list[float]]:
    """The statistics of `normalise` as plain numbers, for who prepares images without it.

    As few digits as give the same 32-bit numbers again.
    """
    return {
        name: [float(str(np.float32(each))) for each in values.tolist()]
        for name, values in (("mean", mean), ("std", std))
    }


def _standardise(images: Batch, mean: Tensor, std: Tensor) -> Float32[Tensor, "b c h w"]:
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or floating, got {images.dtype}")
    if not images.shape[1] == len(mean) == len(std):
        raise ValueError(f"images have {images.shape[1]} channels, mean {len(mean)} and std {len(std)}")
    unit = 255.0 if images.dtype == torch.uint8 else 1.0
    mean = mean.to(images.device, torch.float32)[:, None, None]
    std = std.to(images.device, torch.float32)[:, None, None]
    return (images.float() * (1 / (unit * std))).sub_(mean / std)


def _crop(images: Batch, moves: Moves, padding: int) -> Batch:
    """One gather of every output pixel from the padded batch."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = moves.top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    columns = moves.left[:, None] + torch.where(moves.mirrored[:, None], width - 1 - columns, columns)
    source = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    pixels = padded.flatten(2).gather(2, source.view(batch, 1, -1).expand(-1, channels, -1))
    return pixels.view(images.shape)


def _hole(centre: Int64[Tensor, " b"], length: int, side: int) -> Bool[Tensor, "b l"]:
    """Which of `length` places lie in the `side` ones around each centre."""
    offset = torch.arange(length, device=centre.device) - (centre[:, None] - side // 2)
    return (offset >= 0) & (offset < side)
