"""What is suspicious about images that can be learned from all the same: told, with a count and an example.

An image for training that is tested on too, one image under two labels, images without content, values that use a
small part of their range.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import ImageSet

_log = logging.getLogger(__name__)
_SHOWN = 8
"""So many targets of an image are shown."""
_DARK = 16
"""Below this of 255 the brightest pixel of all images is nearly black."""


@dataclass(frozen=True)
class Examined:
    """What was found of the images of a part.

    Attributes:
        contents: of each image something that only equal images share.
        labels: of each something that only equally labelled ones share.
        names: what each is called in messages.
        is_constant: whether all pixels of each are alike.
        least, largest: of each channel over all images, in 0..1.
    """

    contents: Sequence[Hashable]
    labels: Sequence[Hashable]
    names: Sequence[str]
    is_constant: Sequence[bool]
    least: tuple[float, ...]
    largest: tuple[float, ...]


def examine(
    images: Iterable[Tensor], labels: Sequence[Hashable], name: Callable[[int], str] = "image {}".format
) -> Examined:
    """Look at every image (c, h, w) once.

    Args:
        labels: of each image.
        name: from the place of an image to what it is called.
    """
    contents: list[Hashable] = []
    constant: list[bool] = []
    least: list[float] = []
    largest: list[float] = []
    for image in images:
        pixels = image.cpu().flatten(1)
        low, high = (each.tolist() for each in pixels.aminmax(dim=1))
        constant.append(pixels.shape[1] > 1 and low == high)
        least = [min(pair) for pair in zip(least or low, low, strict=True)]
        largest = [max(pair) for pair in zip(largest or high, high, strict=True)]
        contents.append((tuple(image.shape), hash(pixels.numpy().tobytes())))
        unit = 1.0 if image.is_floating_point() else 255.0
    return Examined(
        contents,
        labels,
        [name(index) for index in range(len(contents))],
        constant,
        tuple(value / unit for value in least),
        tuple(value / unit for value in largest),
    )


def examine_set(part: ImageSet, classes: Sequence[str], name: Callable[[int], str] = "image {}".format) -> Examined:
    """The same of classified images in memory."""
    return examine(part.images, [classes[label] for label in part.labels.tolist()], name)


def tell_suspects(parts: Mapping[str, Examined], where: str) -> None:
    """Warn of what is suspicious in the parts of a data set, of which one is called "train".

    Args:
        where: the data set and its source, to begin a message with.

    Raises:
        DataError: no image for training has any content.
    """
    _tell_repeats(parts, where)
    _tell_contradictions(parts, where)
    train = parts["train"]
    if train.is_constant and all(train.is_constant):
        raise DataError(
            f"{where}: all {len(train.is_constant)} images for training are of one colour each, so there is nothing to "
            "learn; look at one of them, and at how they were written"
        )
    for name, part in parts.items():
        blank = [index for index, is_constant in enumerate(part.is_constant) if is_constant]
        if blank:
            _log.warning(
                "%s: %d of %d images of the part %s are of one colour each, the first is %s",
                *(where, len(blank), len(part.is_constant), name, part.names[blank[0]]),
            )
    flat = [channel for channel, pair in enumerate(zip(train.least, train.largest, strict=True)) if pair[0] == pair[1]]
    if flat:
        _log.warning("%s: channel %s is the same in all pixels for training", where, ", ".join(map(str, flat)))
    if 0 < max(train.largest, default=1.0) < _DARK / 255:
        _log.warning(
            "%s: the brightest value of all images for training is %.3g of 255, which is nearly black; if that is "
            "white say --data.white_level %.3g",
            *(where, 255 * max(train.largest), 255 * max(train.largest)),
        )


def _tell_repeats(parts: Mapping[str, Examined], where: str) -> None:
    train = {content: index for index, content in reversed(list(enumerate(parts["train"].contents)))}
    for name, part in parts.items():
        if name == "train":
            continue
        twice = [index for index, content in enumerate(part.contents) if content in train]
        if twice:
            first = part.names[twice[0]], parts["train"].names[train[part.contents[twice[0]]]]
            _log.warning(
                "%s: %d of %d images of the part %s are images for training too, such as %s, which is %s there; what "
                "is measured on them was learned by heart",
                *(where, len(twice), len(part.contents), name, *first),
            )


def _tell_contradictions(parts: Mapping[str, Examined], where: str) -> None:
    labels: dict[Hashable, dict[Hashable, str]] = defaultdict(dict)
    for part in parts.values():
        for content, label, name in zip(part.contents, part.labels, part.names, strict=True):
            labels[content].setdefault(label, name)
    torn = [by_label for by_label in labels.values() if len(by_label) > 1]
    if torn:
        first, second = list(torn[0].items())[:2]
        _log.warning(
            "%s: %s there under several labels, such as %s as %s and %s as %s",
            *(
                where,
                f"{len(torn)} images are" if len(torn) > 1 else "one image is",
                first[1],
                _shown(first[0]),
                second[1],
                _shown(second[0]),
            ),
        )


def _shown(label: Hashable) -> str:
    if isinstance(label, tuple):
        rest = ", ..." if len(label) > _SHOWN else ""
        return f"({', '.join(f'{value:g}' for value in label[:_SHOWN])}{rest})"
    return repr(label) if isinstance(label, str) else "another mask"
