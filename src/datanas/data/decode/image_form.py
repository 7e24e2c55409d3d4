"""What an image becomes before a network takes it: as the data set did it, for who has the network without the data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor

from datanas.core.settings import Section
from datanas.data.decode.crops import View, centre_square
from datanas.data.decode.open_image import MAX_PIXELS, PixelForm


class ImageForm(Section):
    """The form of the images that a network was trained on.

    Attributes:
        channels: of an image; 1 is grey, 3 colour, and others are of arrays alone.
        height, width: in pixels; null where images keep a size of their own.
        centre_share: how much of an image's shorter side is seen.
        is_scaled: whether the data set scaled its images to this size.
        longest: what the longer side is reduced to where it is longer; null: images are not reduced.
        is_floating: whether pixels were floating numbers in 0..1, not bytes.
        white: the value of pixels of more than 8 bits that is white; null where there were none.
        white_of_8_bits: the same of other images; null leaves them as they are.
        max_pixels: of an image, at most.
        value_range: (low, high) of each channel, where what became pixels in 0..1 were any numbers.
    """

    channels: int
    height: int | None = None
    width: int | None = None
    centre_share: float = 1.0
    is_scaled: bool = False
    longest: int | None = None
    is_floating: bool = False
    white: float | None = None
    white_of_8_bits: float | None = None
    max_pixels: int = MAX_PIXELS
    value_range: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @classmethod
    def of(cls, shape: Sequence[int | None], pixels: PixelForm | None, **more: object) -> ImageForm:
        """The form of images (c, h, w) that were read in this form; None where they were not read from image files."""
        channels, height, width = shape
        read = (
            {}
            if pixels is None
            else {name: getattr(pixels, name) for name in ("white", "white_of_8_bits", "max_pixels", "value_range")}
        )
        return cls.model_validate({"channels": channels, "height": height, "width": width, **read, **more})

    @property
    def pixels(self) -> PixelForm:
        """How files are read."""
        return PixelForm(cast(Literal[1, 3], self.channels), self.white, self.white_of_8_bits, self.max_pixels)

    @property
    def view(self) -> View | None:
        """The part of an image that is seen, and its size; None for the whole image as it is."""
        if self.width is None or self.height is None:
            return None
        ratio = self.width / self.height
        return View(self.width, partial(centre_square, share=self.centre_share, ratio=ratio), self.height)


def as_given(images: Tensor, low: Sequence[float], high: Sequence[float]) -> Tensor:
    """Numbers of a data set (n, c, h, w), from the pixels in 0..1 that became of them.

    Args:
        low, high: the number of each channel that became 0, and the one that became 1.
    """
    least, largest = (torch.tensor(each, device=images.device)[:, None, None] for each in (low, high))
    return least + images * (largest - least)
