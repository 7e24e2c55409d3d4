"""Images with a class for every pixel: the type that all data sets of segmentation return, and the check they pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.decode.image_form import ImageForm
from datanas.data.decode.open_image import PixelForm

VOID = 255
"""The value of pixels that have no class: they are neither learned nor scored."""

Image = UInt8[Tensor, "3 h w"]
Mask = UInt8[Tensor, "h w"]


@dataclass(frozen=True, eq=False)
class SegmentationSet:
    """Colour images in memory, each of a size of its own, and their masks.

    Attributes:
        images: uint8 in 0..255.
        masks: for each image one of its size, with a class or VOID for every pixel.
        names: what each image is called in messages.
        mask_names: what each mask is called there; none where it is called as its image.
    """

    images: tuple[Image, ...]
    masks: tuple[Mask, ...]
    names: tuple[str, ...]
    mask_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.masks) == len(self.names):
            raise ValueError(f"{len(self.images)} images, {len(self.masks)} masks and {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.images)

    def mask_name(self, index: int) -> str:
        """What to call the mask of an image, and the image with it where it is called otherwise."""
        if not self.mask_names or self.mask_names[index] == self.names[index]:
            return self.names[index]
        return f"{self.mask_names[index]} (of image {self.names[index]})"

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(h, w) of each image."""
        return tuple((image.shape[1], image.shape[2]) for image in self.images)

    def to(self, device: torch.device | str) -> SegmentationSet:
        images = tuple(image.to(device) for image in self.images)
        return SegmentationSet(images, tuple(mask.to(device) for mask in self.masks), self.names, self.mask_names)

    def contents(self) -> Iterator[bytes]:
        """Sizes, masks and pixels, piece by piece."""
        yield repr(self.sizes).encode()
        for each in (*self.masks, *self.images):
            yield each.cpu().numpy().tobytes()


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Images to train on, to follow a training by where there are any, and to test on.

    Attributes:
        bears_mirroring: whether a mirrored image with its mask is known to be as good an example.
        pixels: how image files became these pixels, where that is worth telling.
        longest: what the longer side was reduced to, where it was longer.
    """

    train: SegmentationSet
    test: SegmentationSet
    classes: tuple[str, ...]
    validation: SegmentationSet | None = None
    bears_mirroring: bool = False
    pixels: PixelForm | None = None
    longest: int | None = None

    @property
    def image_form(self) -> ImageForm:
        """What any other image has to become."""
        return ImageForm.of((3, None, None), self.pixels, longest=self.longest)

    def parts(self) -> dict[str, SegmentationSet]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def mean(self) -> Float32[Tensor, " 3"]:
        """The mean of each channel over the pixels of all training images, in 0..1."""
        return self._moments[0]

    @property
    def std(self) -> Float32[Tensor, " 3"]:
        """The standard deviation of each channel over the same pixels, in 0..1; at least one grey level (1/255)."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        counts = torch.zeros(3, 256, dtype=torch.float64)
        for image in self.train.images:
            for channel, values in enumerate(image.cpu()):
                counts[channel] += torch.bincount(values.flatten(), minlength=256)
        levels = torch.arange(256, dtype=torch.float64) / 255
        share = counts / counts.sum(dim=1, keepdim=True)
        mean = share @ levels
        std = (share @ levels.square() - mean.square()).clamp_min(0).sqrt()
        return mean.float(), std.clamp_min(1 / 255).float()


def check_masks(data: SegmentationData, where: str) -> None:
    """Make sure that a network can be trained on these images.

    Args:
        where: the data set and its source, to begin the message with.

    Raises:
        DataError: the first fault: what is wrong, in which part and image, and what would be right.
    """
    classes = len(data.classes)
    if classes < 2:
        raise DataError(f"{where}: only one class; at least two are needed")
    if classes > VOID:
        raise DataError(f"{where}: {classes} classes; a mask of bytes holds {VOID} at most, besides void")
    for name, part in data.parts().items():
        _check_part(part, classes, f"{where}: {name}")
    counts = torch.stack([_counts(mask) for mask in data.train.masks]).sum(dim=0)
    if (counts[:classes] > 0).sum() < 2:
        raise DataError(
            f"{where}: all labelled pixels for training are of one class; at least two are needed{_void_told(counts)}"
        )


def _check_part(part: SegmentationSet, classes: int, where: str) -> None:
    if len(part) == 0:
        raise DataError(f"{where} holds no images")
    for index, (name, image, mask) in enumerate(zip(part.names, part.images, part.masks, strict=True)):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
            raise DataError(f"{where} image {name} must be uint8 (3, h, w), got {image.dtype} {tuple(image.shape)}")
        if mask.dtype != torch.uint8 or mask.shape != image.shape[1:]:
            raise DataError(
                f"{where} image {name} is {_size(image)}, its mask {_size(mask)} {mask.dtype}; "
                "a mask must be uint8 and as large as its image"
            )
        wrong = classes + _counts(mask)[classes:VOID].nonzero().flatten()
        if len(wrong):
            raise DataError(
                f"{where} mask {part.mask_name(index)} has the value {int(wrong[0])}; it must hold classes "
                f"0..{classes - 1}, or {VOID} for void"
            )


def _void_told(counts: Tensor) -> str:
    """That many pixels are void, which hides a class of white pixels."""
    share = float(counts[VOID] / counts.sum())
    if share == 0:
        return ""
    return (
        f"; {share:.0%} of the pixels are {VOID}, which stands for void: where white is a class, as in masks of black "
        f'and white, say which values the classes have with --data.values "[0, {VOID}]"'
    )


def _counts(mask: Tensor) -> Tensor:
    """How many pixels have each of the 256 values."""
    return torch.bincount(mask.flatten(), minlength=256)


def _size(pixels: Tensor) -> str:
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"
