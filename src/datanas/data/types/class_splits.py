"""Images whose parts hold different classes, as few-shot learning asks for: what is tested was never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import ImageData, ImageSet, check_set
from datanas.data.batches import stratified, unlabelled
from datanas.data.decode.image_form import ImageForm
from datanas.data.decode.open_image import PixelForm


@dataclass(frozen=True, eq=False)
class ClassSet:
    """The images of one part and the names of its own classes, which its labels count from 0."""

    images: ImageSet
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> ClassSet:
        return ClassSet(self.images.to(device), self.classes)

    def select(self, chosen: Int64[Tensor, " m"]) -> ClassSet:
        """Only the classes of these numbers, counted anew in that order; images keep theirs."""
        chosen = chosen.cpu()
        new_labels = torch.full((len(self.classes),), -1)
        new_labels[chosen] = torch.arange(len(chosen))
        labels = new_labels[self.images.labels.cpu()]
        indices = (labels >= 0).nonzero().flatten()
        images = self.images.images[indices.to(self.images.images.device)]
        selected = ImageSet(images, labels[indices].to(self.images.labels.device))
        return ClassSet(selected, tuple(self.classes[index] for index in chosen.tolist()))


@dataclass(frozen=True, eq=False)
class ClassSplitData:
    """Classes to train on, classes to follow a training by where there are any, and classes to test on.

    Attributes:
        bears_mirroring: whether a mirrored image is known to be as good an image of its class.
        pixels, is_scaled: as of `ImageData`.
    """

    train: ClassSet
    validation: ClassSet | None
    test: ClassSet
    bears_mirroring: bool = False
    pixels: PixelForm | None = None
    is_scaled: bool = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w)."""
        return self._training.image_shape

    @property
    def image_form(self) -> ImageForm:
        """What any other image has to become."""
        return self._training.image_form

    @property
    def mean(self) -> Float32[Tensor, " c"]:
        """Of each channel of the training images, as `ImageData.mean`."""
        return self._training.mean

    @property
    def std(self) -> Float32[Tensor, " c"]:
        """Of each channel of the training images, as `ImageData.std`."""
        return self._training.std

    @cached_property
    def _training(self) -> ImageData:
        return ImageData(
            self.train.images,
            self.test.images,
            self.train.classes,
            pixels=self.pixels,
            is_scaled=self.is_scaled,
        )

    def parts(self) -> dict[str, ClassSet]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def choose_classes(count: int, share: Fraction, seed: int, stream: str) -> tuple[Tensor, Tensor]:
    """Part `count` classes at random, whole ones, so that the first part holds `share` of them.

    Args:
        share: between 0 and 1, exclusive. Both parts get a class where there are two or more.
        stream: what the random numbers are for; with `seed` it keys them.

    Returns:
        The numbers of both parts' classes, ascending.
    """
    return stratified(unlabelled(count), share, seed, stream)


def split_classes(both: ClassSet, test_share: Fraction, seed: int) -> tuple[ClassSet, ClassSet]:
    """Whole classes to train on and, a share of them, to test on."""
    test, train = choose_classes(len(both.classes), test_share, seed, "test classes")
    return both.select(train), both.select(test)


def regroup(data: ImageData, test_share: Fraction, seed: int) -> ClassSplitData:
    """Data whose training and test images share their classes, parted by class: each has its images of both."""
    pairs = zip((data.train.images, data.train.labels), (data.test.images, data.test.labels), strict=True)
    both = ImageSet(*(torch.cat(pair) for pair in pairs))
    train, test = split_classes(ClassSet(both, data.classes), test_share, seed)
    return ClassSplitData(train, None, test, data.bears_mirroring, data.pixels, data.is_scaled)


def check_class_splits(data: ClassSplitData, where: str) -> None:
    """Make sure that images are sound, of one form, and that no class is in two parts.

    Args:
        where: the data set and its source, to begin the message with.

    Raises:
        DataError: the first fault.
    """
    owner: dict[str, str] = {}
    form = data.train.images.images
    for name, part in data.parts().items():
        check_set(part.images, len(part.classes), f"{where}: {name}")
        images = part.images.images
        if (images.shape[1:], images.dtype) != (form.shape[1:], form.dtype):
            raise DataError(
                f"{where}: train and {name} images differ: {tuple(form.shape[1:])} {form.dtype} and "
                f"{tuple(images.shape[1:])} {images.dtype}"
            )
        for label in part.classes:
            if label in owner:
                fault = f"twice in {name}" if owner[label] == name else f"in {owner[label]} and in {name}"
                raise DataError(f"{where}: class {label!r} is {fault}; each part needs classes of its own")
            owner[label] = name
        counts = torch.bincount(part.images.labels.cpu(), minlength=len(part.classes))
        if not counts.all():
            raise DataError(f"{where}: class {part.classes[int(counts.argmin())]!r} of {name} has no images")
