"""Images of which several labels may hold at once, or of which numbers are to be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import ImageSet, ImageSets, check_set
from datanas.data.batches import stratified
from datanas.data.decode.suspect import examine, tell_suspects

Kind = Literal["labels", "numbers"]
TargetKind = Literal["auto", "classes", "labels", "numbers"]
TARGETS = "what is to be told of an image: one of classes, any number of labels, or numbers; auto: by their form"
_BINS, _FEWEST = 10, 10


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetData(ImageSets):
    """Images and a row of targets for each. What an `ImageSet` has for labels is the place of an image's row.

    Attributes:
        classes: the names of the columns.
        kind: labels, each 0 or 1, or numbers.
        train_targets, test_targets: (n, k).
    """

    kind: Kind
    train_targets: Float32[Tensor, "n k"]
    test_targets: Float32[Tensor, "m k"]

    def with_train_targets(self, targets: Float32[Tensor, "n k"]) -> TargetData:
        """The same images, those for training with other targets."""
        return replace(self, train_targets=targets)


def with_indices(images: Tensor) -> ImageSet:
    """Images whose labels are the indices of their targets."""
    return ImageSet(images, torch.arange(len(images)))


def strata_of(targets: Float[Tensor, "n k"], kind: Kind) -> Int64[Tensor, " n"]:
    """By what parts are balanced: the rarest label of each image, k where there is none; of numbers the tenth of the
    first column that an image is in, or of few images larger shares.

    >>> strata_of(torch.tensor([[1.0, 1], [1, 0], [0, 0]]), "labels")
    tensor([1, 0, 2])
    """
    if kind == "numbers":
        ranks = targets[:, 0].argsort(stable=True).argsort()
        bins = min(_BINS, max(1, len(ranks) // _FEWEST))
        return ranks * bins // max(1, len(ranks))
    counts = targets.sum(dim=0)
    rarity = torch.where(targets > 0, counts, torch.inf)
    least = rarity.min(dim=1) if targets.shape[1] else None
    assert least is not None
    return torch.where(least.values.isfinite(), least.indices, targets.shape[1])


def kind_of(targets: Tensor) -> Kind | None:
    """What targets (n,) or (n, k) are by their values: rows of 0 and 1 are labels, other rows and broken numbers are
    numbers, and all else classes (None): whole numbers, and rows of which each has a single 1.
    """
    if targets.ndim == 2 and targets.shape[1] > 1:
        if not bool(_is_binary(targets).all()):
            return "numbers"
        return None if is_one_hot(targets) else "labels"
    is_broken = targets.is_floating_point() and not bool((targets == targets.round()).all())
    return "numbers" if is_broken and targets.ndim <= 2 else None


def is_one_hot(targets: Tensor) -> bool:
    """Whether each row of 0 and 1 has a single 1: classes, written so."""
    is_row = targets.ndim == 2 and targets.shape[1] > 1 and len(targets) > 0
    return is_row and bool(_is_binary(targets).all()) and bool((targets.sum(dim=1) == 1).all())


def target_data(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], names: Sequence[str], kind: Kind, where: str, **form: Any
) -> TargetData:
    """Images and targets of both parts, checked; `form` says how images became pixels.

    Raises:
        DataError: as `check_targets`.
    """
    data = TargetData(
        with_indices(train[0]),
        with_indices(test[0]),
        tuple(names),
        kind=kind,
        train_targets=train[1],
        test_targets=test[1],
        **form,
    )
    check_targets(data, where)
    return data


def parted(
    targets: Tensor, kind: Kind | None, test_share: float, seed: int, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which images are for training and which for testing, balanced by class, or by `strata_of`.

    Args:
        targets: of no kind the classes (n,).
        groups: images of one group stay together.

    Raises:
        DataError: there are too few groups.
    """
    strata = targets if kind is None else strata_of(targets, kind)
    return stratified(strata, 1 - Fraction(str(test_share)), seed, "test split", groups)


def _is_binary(targets: Tensor) -> Bool[Tensor, "n k"]:
    return (targets == 0) | (targets == 1)


def check_targets(data: TargetData, where: str) -> None:
    """Make sure that a network can be trained on these images, and tell what is suspicious.

    Raises:
        DataError: the first fault: what is wrong, in which split and image, and what would be right.
    """
    parts = {"train": (data.train, data.train_targets), "test": (data.test, data.test_targets)}
    for part, (images, targets) in parts.items():
        check_set(images, len(images), f"{where}: {part}")
        if targets.shape != (len(images), len(data.classes)):
            raise DataError(
                f"{where}: {part} targets must have the shape ({len(images)}, {len(data.classes)}), a row an image and "
                f"a column a name, got {tuple(targets.shape)}"
            )
        if len(wrong := (~targets.isfinite()).any(dim=1).nonzero()):
            raise DataError(f"{where}: {part} image {int(wrong[0])} has a target that is missing or infinite")
        if data.kind == "labels" and len(wrong := (~_is_binary(targets)).any(dim=1).nonzero()):
            raise DataError(f"{where}: {part} image {int(wrong[0])} has a label that is neither 0 nor 1")
    if data.train.images.shape[1:] != data.test.images.shape[1:] or data.train.images.dtype != data.test.images.dtype:
        raise DataError(f"{where}: train and test images differ in size, channels or type of number")
    flat = data.train_targets.min(dim=0).values == data.train_targets.max(dim=0).values
    if flat.any():
        name = data.classes[int(flat.nonzero()[0])]
        fault = (
            "is the same in" if data.kind == "numbers" or data.train_targets[:, flat][0, 0] == 1 else "holds in none of"
        )
        raise DataError(f"{where}: {name!r} {fault} all images for training, so there is nothing to learn of it")
    examined = {part: examine(images.images, [*map(tuple, rows.tolist())]) for part, (images, rows) in parts.items()}
    tell_suspects(examined, where)
