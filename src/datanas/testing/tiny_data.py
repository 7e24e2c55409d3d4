"""A tiny data set of every kind that tasks take."""

from __future__ import annotations

import torch

from datanas.data.base import ImageData, ImageSet
from datanas.data.types.class_splits import ClassSet, ClassSplitData
from datanas.data.types.corpus import EOS, TextData
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet
from datanas.data.types.targets import Kind, TargetData, target_data


def tiny_images() -> ImageData:
    """Images of three classes."""

    def part(count: int) -> ImageSet:
        generator = torch.Generator().manual_seed(count)
        pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return ImageSet(pixels, torch.arange(count) % 3)

    return ImageData(part(60), part(30), ("ant", "bee", "cow"))


def tiny_text() -> TextData:
    """A text of nine words."""

    def part(count: int) -> torch.Tensor:
        return torch.randint(0, 9, (count,), generator=torch.Generator().manual_seed(count))

    return TextData(part(1200), part(70), part(80), (EOS, *"abcdefgh"), {})


def tiny_classes() -> ClassSplitData:
    """Images whose classes for training and for testing are different ones."""

    def part(count: int, name: str) -> ClassSet:
        generator = torch.Generator().manual_seed(count)
        pixels = torch.randint(0, 256, (16 * count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return ClassSet(ImageSet(pixels, torch.arange(16 * count) % count), tuple(f"{name}{n}" for n in range(count)))

    return ClassSplitData(part(40, "train"), None, part(5, "test"))


def tiny_masks() -> SegmentationData:
    """Images of two sizes, whose masks have some void."""

    def part(count: int) -> SegmentationSet:
        generator = torch.Generator().manual_seed(count)
        sizes = [(16, 16 + 4 * (index % 2)) for index in range(count)]
        images = tuple(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes)
        masks = tuple(torch.randint(0, 4, size, generator=generator, dtype=torch.uint8) for size in sizes)
        masks = tuple(torch.where(mask == 3, VOID, mask) for mask in masks)
        return SegmentationSet(images, masks, tuple(map(str, range(count))))

    return SegmentationData(part(32), part(9), ("ant", "bee", "cow"))


def tiny_targets(kind: Kind = "labels") -> TargetData:
    """Images of which three labels may hold, or with three numbers."""

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(count)
        pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        rows = torch.rand(count, 3, generator=generator)
        return pixels, (rows < 0.4).float() if kind == "labels" else 5 + 2 * rows

    return target_data(part(60), part(30), ("ant", "bee", "cow"), kind, "tiny")


def tiny_numbers() -> TargetData:
    """Images with three numbers each."""
    return tiny_targets("numbers")


TINY_DATA = (tiny_text, tiny_masks, tiny_classes, tiny_targets, tiny_numbers, tiny_images)
"""The particular kinds first: some tasks make theirs of plain images too."""
