"""Splits of examples that belong together: a group, such as all pictures of one patient, is on one side of a split."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.seeding import generator

Counts = NDArray[np.int64]
_OF_A_CLASS = 2  # parts of the path of an image that lies in the folder of its class


def split_whole_groups(
    labels: Int64[Tensor, " n"], groups: Int64[Tensor, " n"], share: Fraction, seed: int, stream: str
) -> tuple[Int64[Tensor, " first"], Int64[Tensor, " second"]]:
    """Split examples at random so that no group is in both parts and the first holds about `share` of each class.

    Groups come in a random order, and one is taken into the first part where that brings the shares of the classes
    closer to `share`, by the sum of their squared differences. A class that is in two or more groups is in both parts
    where one group can be moved for it.

    Args:
        labels, groups: the class and the group of each example.
        share: of the first part, between 0 and 1, exclusive.
        stream: what the random numbers are for; with `seed` it keys them.

    Returns:
        The indices of both parts, ascending.

    Raises:
        DataError: all examples are of one group.
    """
    names, group = torch.unique(groups.cpu(), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{len(group)} examples of one group cannot be split; there must be two groups at least")
    counts = _counts(labels.cpu(), group, len(names))
    order = torch.randperm(len(names), generator=generator(seed, stream)).tolist()
    taken = _closest(counts, order, float(share))
    _have_every_class(counts, taken)
    is_first = torch.from_numpy(taken)[group]
    return is_first.nonzero().flatten(), (~is_first).nonzero().flatten()


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


def _counts(labels: Tensor, group: Tensor, number: int) -> Counts:
    """(groups, classes), the examples of each."""
    classes, label = torch.unique(labels, return_inverse=True)
    cells = torch.bincount(group * len(classes) + label, minlength=number * len(classes))
    counts: Counts = cells.view(number, len(classes)).numpy()
    return counts


def _closest(counts: Counts, order: list[int], share: float) -> NDArray[np.bool_]:
    """Which groups the first part takes, one at least and not all.

    What lies half way is left, but for the only group of a class: the first of two equal parts is learned from.
    """
    is_only = ((counts > 0) & ((counts > 0).sum(0) == 1)).any(1)
    shares = counts / counts.sum(0)
    missing = np.full(counts.shape[1], share)
    taken = np.zeros(len(counts), dtype=bool)
    for index in order:
        rest = missing - shares[index]
        closer = np.square(missing).sum() - np.square(rest).sum()
        if closer > 0 or (closer == 0 and is_only[index]):
            taken[index], missing = True, rest
    if taken.all() or not taken.any():
        smallest = min(order, key=lambda index: int(counts[index].sum()))
        taken[smallest] = not taken[smallest]
    return taken


def _have_every_class(counts: Counts, taken: NDArray[np.bool_]) -> None:
    """Move the smallest group that brings a class to the side that lacks it, where the other side keeps every class."""
    for side in (True, False):
        for label in range(counts.shape[1]):
            has_it = counts[:, label] > 0
            if (has_it & (taken == side)).any():
                continue
            for index in sorted(np.flatnonzero(has_it), key=lambda each: int(counts[each].sum())):
                left = (taken != side) & (np.arange(len(taken)) != index)
                if left.any() and counts[left].any(0)[counts[taken != side].any(0)].all():
                    taken[index] = side
                    break
