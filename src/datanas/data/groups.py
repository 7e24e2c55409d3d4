"""Splits of examples that belong together: a group, such as all pictures of one patient, is on one side of a split."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.seeding import generator

_log = logging.getLogger(__name__)
USE_GROUPS = "never split what the data say belongs together"
_OF_A_CLASS = 2  # parts of the path of an image that lies in the folder of its class


def split_whole_groups(
    labels: Int64[Tensor, " n"],
    groups: Int64[Tensor, " n"],
    share: Fraction,
    seed: int,
    stream: str,
    *,
    learns_first: bool,
) -> tuple[Int64[Tensor, " first"], Int64[Tensor, " second"]]:
    """Split examples at random so that no group is in both parts and the first holds about `share` of each class.

    The only group of a class goes to the part that is learned from. The others come in a random order, and one is taken
    into the first part where that brings the shares of its classes closer to `share`, by the sum of their squared
    differences. Then smallest groups move until each part has every class that it can have; the part that is learned
    from has all of them.

    Args:
        labels, groups: the class and the group of each example.
        share: of the first part, between 0 and 1, exclusive.
        stream: what the random numbers are for; with `seed` it keys them.
        learns_first: whether the first part is the one that is learned from.

    Returns:
        The indices of both parts, ascending.

    Raises:
        DataError: there is one group, or each is the only one of a class.
    """
    split = _Split(labels.cpu(), groups.cpu(), learns_first=learns_first)
    split.take(torch.randperm(len(split.sizes), generator=generator(seed, stream)).tolist(), float(share))
    split.complete()
    is_first = torch.from_numpy(split.taken)[split.group]
    return is_first.nonzero().flatten(), (~is_first).nonzero().flatten()


class _Split:
    """Which groups the first part takes.

    Attributes:
        group: (n,), the group of each example, counted from 0.
        sizes: (groups,), examples of each.
        taken: (groups,), whether the first part has it.
    """

    def __init__(self, labels: Tensor, groups: Tensor, *, learns_first: bool) -> None:
        names, self.group = torch.unique(groups, return_inverse=True)
        classes, label = torch.unique(labels, return_inverse=True)
        # By group, what it has of its classes: few groups have many of them.
        cells, counts = torch.unique(self.group * len(classes) + label, return_counts=True)
        self.sizes: NDArray[np.int64] = torch.bincount(self.group).numpy()
        ends = np.cumsum(torch.bincount(cells // len(classes), minlength=len(names)).numpy())[:-1]
        held = (cells % len(classes)).numpy()
        self._classes = np.split(held, ends)
        self._shares = np.split((counts / torch.bincount(label)[cells % len(classes)]).numpy(), ends)
        groups_of = np.bincount(held, minlength=len(classes))
        self._is_only = np.array([bool((groups_of[each] == 1).any()) for each in self._classes])
        if self._is_only.all():
            raise DataError(
                f"{len(labels)} examples of {len(names)} groups, each the only one of a class, cannot be split; there "
                "must be groups to test on, to judge by, and for both parts of a search: more of them, or none at all"
            )
        self._learns_first = learns_first
        self.taken: NDArray[np.bool_] = self._is_only & learns_first

    def take(self, order: Sequence[int], share: float) -> None:
        """Let the first part have about this share of each class, of one group at least and not of all."""
        missing = np.full(int(max(map(max, self._classes))) + 1, share)
        for index in np.flatnonzero(self.taken).tolist():
            missing[self._classes[index]] -= self._shares[index]
        free = [index for index in order if not self._is_only[index]]
        for index in free:
            before = missing[self._classes[index]]
            rest = before - self._shares[index]
            if np.square(rest).sum() < np.square(before).sum():
                self.taken[index] = True
                missing[self._classes[index]] = rest
        if self.taken.all() or not self.taken.any():
            smallest = min(free, key=lambda index: int(self.sizes[index]))
            self.taken[smallest] = not self.taken[smallest]

    def complete(self) -> None:
        """Move groups so that the part that is learned from has every class, and then the other what it can have."""
        labels = np.concatenate(self._classes)
        number = int(labels.max()) + 1
        parts = np.repeat(self.taken, [len(each) for each in self._classes])
        held = np.stack([np.bincount(labels[parts == side], minlength=number) for side in (False, True)])
        of_class: list[list[int]] = [[] for _ in range(number)]
        for index in np.argsort(self.sizes, kind="stable").tolist():
            for label in self._classes[index].tolist():
                of_class[label].append(index)
        for side in (self._learns_first, not self._learns_first):
            lacks, gives = held[int(side)], held[int(not side)]
            for label in range(number):
                if lacks[label]:
                    continue
                for index in of_class[label]:
                    left = gives.copy()
                    left[self._classes[index]] -= 1
                    is_learned_from = side == self._learns_first
                    if left.any() if is_learned_from else (left[self._classes[index]] > 0).all():
                        self.taken[index] = side
                        gives[:] = left
                        lacks[self._classes[index]] += 1
                        break


def numbered(names: Sequence[Hashable]) -> Int64[Tensor, " n"]:
    """The group of each example, counted from 0, by what they are called.

    >>> numbered(["ann", "bob", "ann"])
    tensor([0, 1, 0])
    """
    known: dict[Hashable, int] = {}
    return torch.tensor([known.setdefault(name, len(known)) for name in names], dtype=torch.int64)


def by_folder(names: Sequence[str]) -> Int64[Tensor, " n"]:
    """The group of each image by its path below the folders of the classes: the folder inside its class, of whatever
    class, that it lies in; itself where it lies in none.

    >>> by_folder(["cat/ann/1.jpg", "cat/ann/2/3.jpg", "dog/ann/1.jpg", "dog/4.jpg"])
    tensor([0, 0, 0, 1])
    """
    parts = [Path(name).parts for name in names]
    return numbered([each[1:2] if len(each) > _OF_A_CLASS else each for each in parts])


def train_groups_by_folder(train: Sequence[str], test: Sequence[str], where: str) -> Int64[Tensor, " n"]:
    """The groups of the images for training, as `by_folder`; a warning tells of groups that test images share, and
    where no image lies in a folder inside its class.

    Args:
        train, test: the paths of the images.
        where: the data set and its source, to begin a warning with.
    """
    names = [*train, *test]
    if all(len(Path(name).parts) <= _OF_A_CLASS for name in names):
        _log.warning("%s: group_by_folder: no image lies in a folder inside its class, so none belong together", where)
    groups = by_folder(names)
    tell_shared_groups(groups[: len(train)].tolist(), groups[len(train) :].tolist(), where)
    return groups[: len(train)]


def tell_shared_groups(train: Iterable[Hashable], test: Iterable[Hashable], where: str) -> None:
    """Warn of groups that are both for training and for testing, as data came that bring their own parts."""
    shared = set(train) & set(test)
    if shared:
        _log.warning(
            "%s: %d groups of images to test on are groups of those for training too; what is measured on them may be "
            "too good",
            *(where, len(shared)),
        )
