"""Random scale, crop and flip of images and their masks together (Chen et al., 2017, Section 4.1).

Shapes: b images, c channels, h x w pixels of an image, s x s of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, UInt8
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from datanas.core.settings import Section
from datanas.data.augment import normalise
from datanas.data.types.masks import VOID, Image, Mask


class MaskAugment(Section):
    """What is done to training images before the crop; the defaults are those of DeepLab v3."""

    scale: tuple[float, float] = Field(default=(0.5, 2.0), description="least and largest factor of height and width")
    flip: bool | None = Field(
        default=None,
        description="mirror every second image, at random; null: where the data set is known to bear it",
    )

    @field_validator("scale")
    @classmethod
    def ascending(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= scale[0] <= scale[1] <= 10:
            raise ValueError(f"scale must be two ascending factors in 0.1..10, got {scale[0]}, {scale[1]}")
        return scale

    def settled(self, *, bears_mirroring: bool) -> MaskAugment:
        """The same with `flip` said: by these settings, or else by what is known of the data."""
        return self if self.flip is not None else self.model_copy(update={"flip": bears_mirroring})


@dataclass(frozen=True)
class Window:
    """The square that is cut out of a scaled image; where it reaches beyond the image, there is void.

    Attributes:
        size: (h, w) of the scaled image.
        top, left: the square's corner in it.
        side: of the square.
        mirrored: whether the square is mirrored at last.
    """

    size: tuple[int, int]
    top: int
    left: int
    side: int
    mirrored: bool

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """What to add left, right, above and below the scaled image; a number below 0 cuts off."""
        height, width = self.size
        return -self.left, self.left + self.side - width, -self.top, self.top + self.side - height


def draw_windows(
    sizes: Sequence[tuple[int, int]], side: int, settings: MaskAugment, generator: torch.Generator
) -> list[Window]:
    """Draw the windows of a batch.

    The smaller of window and scaled image lies anywhere inside the larger one, every place alike likely. All numbers
    are drawn whatever the settings, so that switching one off leaves the others as they were. A `flip` that nobody
    has settled mirrors nothing.

    Args:
        sizes: (h, w) of the images of the batch.
        generator: on the CPU.
    """
    low, high = settings.scale
    windows = []
    for (height, width), numbers in zip(sizes, torch.rand(len(sizes), 4, generator=generator).tolist(), strict=True):
        factor = low + numbers[0] * (high - low)
        size = max(1, round(height * factor)), max(1, round(width * factor))
        top, left = (
            min(0, length - side) + int(number * (abs(length - side) + 1))
            for length, number in zip(size, numbers[1:3], strict=True)
        )
        windows.append(Window(size, top, left, side, mirrored=bool(settings.flip) and numbers[3] < 0.5))
    return windows


def cut_image(image: Image, window: Window, mean: Float32[Tensor, " c"], std: Float32[Tensor, " c"]) -> Tensor:
    """The window of an image, scaled bilinearly, as (image - mean) / std of pixels in 0..1; beyond the border the mean.

    Returns:
        (c, s, s) float32 on the image's device.
    """
    pixels = normalise(image[None], mean, std)
    if window.size != image.shape[1:]:
        pixels = F.interpolate(pixels, window.size, mode="bilinear", align_corners=False)
    pixels = F.pad(pixels, window.padding)[0]
    return pixels.flip(-1) if window.mirrored else pixels


def cut_mask(mask: Mask, window: Window) -> UInt8[Tensor, "s s"]:
    """The window of a mask, each pixel from the nearest one of the mask; beyond the border VOID."""
    values = mask[None, None]
    if window.size != mask.shape:
        values = F.interpolate(values, window.size, mode="nearest-exact")
    values = F.pad(values, window.padding, value=VOID)[0, 0]
    return values.flip(-1) if window.mirrored else values
