"""What a data set is, the image types that most of them return, and the check that all of these pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from datanas.core.errors import DataError, DatanasError
from datanas.core.paths import shown
from datanas.core.settings import ComponentConfig
from datanas.data.decode.image_form import ImageForm
from datanas.data.decode.open_image import PixelForm

DataT = TypeVar("DataT", covariant=True)
Images = UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
Labels = Int64[Tensor, " n"]

_CONSTANT = 2.0**-24  # below the steps of float32 near 1
UNLABELLED = "unlabelled"
"""The only class of images of which no classes are known."""
_CHUNK_VALUES = 1 << 24


class Dataset(ABC, Generic[DataT]):
    """A data set that a configuration names; `Config` declares its settings, `load` reads it whole.

    Image sets return an `ImageData`; a data set of another kind returns a type of its own. What the system says of a
    path while data are read becomes a DataError, whatever the data set.
    """

    Config: ClassVar[type[ComponentConfig]]
    packed_arrays: ClassVar[frozenset[str]] = frozenset()
    """Arrays by which an .npz file that this data set alone reads is known; none where it has no form of its own."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "load" in cls.__dict__:
            setattr(cls, "load", _with_data_errors(cls.load))  # noqa: B010 -- a method is no plain attribute for mypy

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config

    def image_sizes(self) -> list[tuple[int, int]]:
        """(width, height) in pixels of some images that `resize` would scale; none by default."""
        return []

    def target_kind(self) -> str | None:
        """What is to be told of an image where it is no class, "labels" or "numbers"; images are not read for it."""
        return None

    @abstractmethod
    def load(self) -> DataT:
        """Read the data; the same configuration gives the same data.

        Raises:
            DataError: the data is missing, broken or unsuitable.
        """


def _with_data_errors(load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(load)
    def loaded(self: Dataset[Any]) -> Any:
        _require_path(self.config)
        try:
            return load(self)
        except OSError as fault:
            if isinstance(fault, DatanasError):
                raise
            path = shown(fault.filename if fault.filename is not None else getattr(self.config, "root", ""))
            raise DataError(f"{self.config.name} {path}: {fault.strerror or fault}") from fault

    return loaded


def _require_path(config: ComponentConfig) -> None:
    """Tell what the system says of `root`, but for nothing being there, of which a data set knows more to say."""
    root = getattr(config, "root", None)
    if not isinstance(root, Path):
        return
    where = f"{config.name} {shown(root)}"
    try:
        root.stat()
    except (FileNotFoundError, NotADirectoryError):
        if root.is_symlink():
            raise DataError(f"{where}: a link that leads nowhere") from None
    except (OSError, ValueError) as fault:
        raise DataError(f"{where}: {getattr(fault, 'strerror', None) or fault}") from None


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory and their classes.

    Attributes:
        images: (n, c, h, w), uint8 in 0..255 or float32 in 0..1.
        labels: (n,), int64.
    """

    images: Images
    labels: Labels
    ahead: ClassVar[int] = 0
    crops: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> ImageSet:
        return ImageSet(self.images.to(device), self.labels.to(device))

    def with_labels(self, labels: Labels) -> ImageSet:
        """The same images under other labels."""
        return ImageSet(self.images, labels)

    def begin(
        self, indices: Int64[Tensor, " m"], share: slice = slice(None), crop: torch.Generator | None = None
    ) -> Callable[[], tuple[Images, Labels]]:
        """As `ImageSource.begin`; the images are there already, and are cropped in whole batches by `augment`."""
        part = self.select(indices[share])
        return lambda: (part.images, part.labels)

    def contents(self) -> Iterator[bytes]:
        """Labels and pixels, piece by piece."""
        yield self.labels.cpu().numpy().tobytes()
        for _, chunk in _chunks(self.images):
            yield chunk.cpu().numpy().tobytes()

    def select(self, indices: Int64[Tensor, " m"]) -> ImageSet:
        """The images at `indices`, in that order."""
        indices = indices.to(self.labels.device)
        return ImageSet(self.images[indices], self.labels[indices])

    def balanced_prefix(self, count: int) -> ImageSet:
        """The first `count` images, passing over a class that is ahead; class sizes differ by one at most
        unless a class runs out.
        """
        by_class = self.labels.argsort(stable=True)
        _, sizes = torch.unique_consecutive(self.labels[by_class], return_counts=True)
        starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        rank = torch.empty_like(by_class)
        rank[by_class] = torch.arange(len(self), device=rank.device) - starts
        return self.select(rank.argsort(stable=True)[:count].sort().values)


@dataclass(frozen=True, eq=False)
class ImageSets:
    """Images for training and testing, whatever is to be told of them.

    Attributes:
        classes: what the outputs of a network stand for.
        bears_mirroring: whether a mirrored image is known to be as good an image.
        pixels: how image files or arrays became these pixels, where they were not such pixels already.
        is_scaled: whether images were scaled to their size.
        train_groups: (n,), int64, the group of each training image: those of one group, such as pictures of the same
            patient, are on one side of every split. None where each stands for itself.
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    bears_mirroring: bool = False
    pixels: PixelForm | None = None
    is_scaled: bool = False
    train_groups: Int64[Tensor, " n"] | None = None
    centre_share: ClassVar[float] = 1.0
    """How much of an image's shorter side is measured."""

    def __post_init__(self) -> None:
        if self.train_groups is not None and self.train_groups.shape != self.train.labels.shape:
            raise ValueError(f"{len(self.train)} images for training but groups of shape {[*self.train_groups.shape]}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def image_form(self) -> ImageForm:
        """What any other image has to become."""
        is_floating = self.train.images.is_floating_point()
        return ImageForm.of(self.image_shape, self.pixels, is_scaled=self.is_scaled, is_floating=is_floating)

    @property
    def mean(self) -> Float32[Tensor, " c"]:
        """The mean of each channel of the training images, in 0..1."""
        return self._moments[0]

    @property
    def std(self) -> Float32[Tensor, " c"]:
        """The standard deviation of each channel of the training images, in 0..1.

        At least one grey level (1/255), so that a constant channel can be normalised; of numbers that are no pixels
        only a constant channel has that.
        """
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        images = self.train.images
        channels = images.shape[1]
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros_like(total)
        levels = torch.arange(256, dtype=torch.float64) / 255
        for _, chunk in _chunks(images):
            for channel, values in enumerate(chunk.cpu().unbind(1)):
                if values.dtype == torch.uint8:
                    counts = torch.bincount(values.flatten(), minlength=256)
                    total[channel] += (counts * levels).sum()
                    squares[channel] += (counts * levels.square()).sum()
                else:
                    total[channel] += values.double().sum()
                    squares[channel] += values.double().square().sum()
        count = images.numel() / channels
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        has_levels = self.pixels is None or self.pixels.value_range is None
        floor = 1 / 255 if has_levels else _CONSTANT
        return mean.float(), torch.where(std < floor, 1 / 255, std).float()


@dataclass(frozen=True, eq=False)
class ImageData(ImageSets):
    """A classified image set, split into training and test images."""

    def with_train_labels(self, labels: Labels) -> ImageData:
        """The same images, those for training under other labels."""
        return replace(self, train=self.train.with_labels(labels))


def check_images(
    train: ImageSet, test: ImageSet, classes: Sequence[str], where: str, *, fewest_classes: int = 2
) -> None:
    """Make sure that a network can be trained on these images.

    Args:
        where: the data set and its source, to begin the message with.
        fewest_classes: 1 where images may be without labels, so that the task says how many it needs.

    Raises:
        DataError: the first fault: what is wrong, in which split and image, and what would be right.
    """
    if len(classes) < fewest_classes:
        raise DataError(f"{where}: only one class; at least two are needed")
    check_set(train, len(classes), f"{where}: train")
    check_set(test, len(classes), f"{where}: test")
    if train.images.shape[1:] != test.images.shape[1:] or train.images.dtype != test.images.dtype:
        raise DataError(f"{where}: train and test images differ: {_form(train)} and {_form(test)}")
    counts = torch.bincount(train.labels, minlength=len(classes))
    if not counts.all():
        empty = int((counts == 0).nonzero()[0])
        raise DataError(f"{where}: class {classes[empty]!r} has no training image; each class needs at least one")


def check_set(part: ImageSet, classes: int, where: str) -> None:
    """Make sure that one set of images has the right form, labels in 0..classes-1 and pixels in range.

    Raises:
        DataError: the first fault, after `where`.
    """
    _check_form(part, where)
    _check_labels(part.labels, classes, where)
    _check_values(part.images, where)


def _form(part: ImageSet) -> str:
    return f"{tuple(part.images.shape[1:])} {str(part.images.dtype).removeprefix('torch.')}"


def _check_form(part: ImageSet, where: str) -> None:
    images, labels = part.images, part.labels
    if images.dtype not in (torch.uint8, torch.float32):
        raise DataError(f"{where} images must be uint8 or float32, got {images.dtype}")
    if images.ndim != 4:
        raise DataError(f"{where} images must have the shape (n, c, h, w), got {tuple(images.shape)}")
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise DataError(f"{where} labels must be int64 of the shape (n,), got {labels.dtype} {tuple(labels.shape)}")
    if images.numel() == 0:
        raise DataError(f"{where} holds no images")


def _check_labels(labels: Tensor, classes: int, where: str) -> None:
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise DataError(f"{where} image {index} has the label {int(labels[index])}; labels must be in 0..{classes - 1}")


def _check_values(images: Tensor, where: str) -> None:
    if not images.is_floating_point():
        return
    for start, chunk in _chunks(images):
        pixels = chunk.flatten(1)
        for bad, fault in (
            (~pixels.isfinite(), "NaN or infinite pixels"),
            ((pixels < 0) | (pixels > 1), "pixels outside 0..1; scale them, or store uint8"),
        ):
            images_with = bad.any(1).nonzero()
            if len(images_with):
                raise DataError(f"{where} image {start + int(images_with[0])} has {fault}")


def _chunks(images: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Consecutive pieces of bounded memory, each with the index of its first image."""
    size = max(1, _CHUNK_VALUES // images[0].numel())
    for start in range(0, len(images), size):
        yield start, images[start : start + size]
