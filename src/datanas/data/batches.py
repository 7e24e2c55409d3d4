"""Which images go where and when: stratified splits, and batches as a function of the step number."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import torch
from jaxtyping import Int64
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.seeding import generator
from datanas.data.base import Images, Labels
from datanas.data.groups import split_whole_groups
from datanas.data.types.source import ImageSource, Take

Indices = Int64[Tensor, " m"]
Groups = Int64[Tensor, " m"] | None
Parts = tuple[Int64[Tensor, " first"], Int64[Tensor, " second"]]

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def parse_ratio(text: str) -> tuple[int | float, int | float]:
    """Read "m:n", two positive numbers; whole numbers come back as int.

    Raises:
        ValueError: the text is something else.
    """
    parts = [part.strip() for part in text.split(":")]
    if len(parts) == 2 and all(_NUMBER.fullmatch(part) and float(part) > 0 for part in parts):
        first, second = (float(part) if "." in part else int(part) for part in parts)
        return first, second
    raise ValueError(f"a ratio must be two positive numbers m:n, such as 1:1, got {text!r}")


def split(labels: Labels, ratio: str, seed: int, groups: Groups = None) -> Parts:
    """Split images m:n into two disjoint parts that cover all of them, class by class.

    Args:
        ratio: "m:n", the sizes of the parts to each other.
        groups: as for `stratified`.

    Returns:
        The indices of both parts, ascending.

    Raises:
        ValueError: `ratio` is malformed.
        DataError: a part would be empty.
    """
    first, second = (Fraction(str(number)) for number in parse_ratio(ratio))
    parts = stratified(labels, first / (first + second), seed, "split", groups)
    if not (len(parts[0]) and len(parts[1])):
        raise DataError(f"{len(labels)} images cannot be split {ratio}: a part would be empty")
    return parts


def stratified(
    labels: Labels, share: Fraction, seed: int, stream: str, groups: Groups = None, *, learns_first: bool = True
) -> Parts:
    """Split images at random so that the first part holds `share` of them and of each class.

    A class of two or more images is in both parts. Rounding is carried from class to class, so the total is right too.

    Args:
        share: between 0 and 1, exclusive.
        stream: what the random numbers are for; with `seed` it keys them.
        groups: the group of each image; images of one group stay together, so that `share` holds about.
        learns_first: whether the first part is the one that is learned from, which then has every class.

    Raises:
        ValueError: `share` is out of its range.
        DataError: there are too few groups.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    if groups is not None:
        return split_whole_groups(labels, groups, share, seed, stream, learns_first=learns_first)
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator(seed, stream))
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.unique_consecutive(labels[order], return_counts=True)[1].tolist()
    first, second, end = [order[:0]], [order[:0]], 0
    for members, size in zip(torch.split(order, sizes), sizes, strict=True):
        start, end = end, end + size
        taken = _round(end * share) - _round(start * share)
        if size > 1:
            taken = min(max(taken, 1), size - 1)
        first.append(members[:taken])
        second.append(members[taken:])
    return torch.cat(first).sort().values, torch.cat(second).sort().values


def held_out(labels: Labels, share: float, seed: int, groups: Groups = None) -> Parts:
    """Hold out a share of the training examples for validation, at random and of each class.

    Args:
        share: 0 holds out none; below 1.
        groups: as for `stratified`.

    Returns:
        The indices of those held out and of those trained on, ascending.

    Raises:
        ValueError: `share` is out of its range.
        DataError: there are too few groups.
    """
    if share == 0:
        everything = torch.arange(len(labels))
        return everything[:0], everything
    return stratified(labels, Fraction(str(share)), seed, "validation", groups, learns_first=False)


JUDGE_SEED = 0
"""Keys what is left to a judge, so that runs of all seeds leave the same."""


def judge_share(examples: int) -> float:
    """The share of so many training examples that a judge needs: a tenth, but at least 1,000 or a fifth."""
    return max(0.1, min(1000 / max(examples, 1), 0.2))


def left_to_judge(labels: Labels, share: float | None, groups: Groups = None) -> Parts:
    """What is left to the judge of a race, the same for all seeds, and the rest; as `held_out`.

    Args:
        share: None for `judge_share`.
        groups: as for `stratified`.
    """
    return held_out(labels, judge_share(len(labels)) if share is None else share, JUDGE_SEED, groups)


def unlabelled(count: int) -> Labels:
    """One class for so many examples, by which they are split at random."""
    return torch.zeros(count, dtype=torch.int64)


def _round(number: Fraction) -> int:
    return int(number + Fraction(1, 2))


class Order:
    """Which images make the shuffled batch of a step: a pure function of its number.

    Args:
        indices: the images of the part.
        batch_size: images a batch; where there are fewer, a batch is all of them.
        seed, name: key the order of every epoch.
        drop_last: leave out the last, shorter batch of an epoch.

    Raises:
        ValueError: no indices, or no batch size of at least 1.
    """

    def __init__(self, indices: Indices, batch_size: int, seed: int, name: str, drop_last: bool = True) -> None:
        if len(indices) == 0:
            raise ValueError(f"stream {name!r} has no images")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = min(batch_size, len(indices))
        self.steps_per_epoch = len(indices) // self.batch_size
        if not drop_last and len(indices) % self.batch_size:
            self.steps_per_epoch += 1
        self._indices = indices.cpu()
        self._seed, self._name = seed, name
        self._epoch, self._order = -1, self._indices

    @property
    def left_out(self) -> int:
        """How many images no batch of an epoch holds."""
        return max(0, len(self._indices) - self.steps_per_epoch * self.batch_size)

    def at(self, step: int) -> Indices:
        """The images of step `step`, counted from 0 over all epochs."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            keyed = generator(self._seed, f"order/{self._name}", epoch)
            self._epoch, self._order = epoch, self._indices[torch.randperm(len(self._indices), generator=keyed)]
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]


class Stream(Order):
    """Shuffled batches of a part of the data, each a pure function of its step number.

    While a batch is worked on, the next ones are begun where the data take time to read.

    Args:
        data: the images; a batch is on their device.
        indices, batch_size, drop_last: as for `Order`.
        seed, name: key the order of every epoch, and the random crops of every step where the data make them.

    Raises:
        ValueError: no indices, or no batch size of at least 1.
    """

    def __init__(
        self, data: ImageSource, indices: Indices, batch_size: int, seed: int, name: str, drop_last: bool = True
    ) -> None:
        super().__init__(indices, batch_size, seed, name, drop_last)
        self.data = data
        self._share = slice(None)
        self._begun: dict[int, Take] = {}

    def batch(self, step: int, share: slice = slice(None)) -> tuple[Images, Labels]:
        """The images and labels of step `step`, counted from 0 over all epochs, or a share of them."""
        before = self._begun if share == self._share else {}
        self._share = share
        # Whatever else was begun is let go, so that no more is ever under way than this.
        self._begun = {each: before[each] if each in before else self._begin(each) for each in self._window(step)}
        return self._begun.pop(step)()

    def _window(self, step: int) -> range:
        return range(step, step + self.data.ahead + 1)

    def _begin(self, step: int) -> Take:
        crop = generator(self._seed, f"crop/{self._name}", step) if self.data.crops else None
        return self.data.begin(self.at(step).to(self.data.labels.device), self._share, crop)


def sequential(
    data: ImageSource, indices: Indices | None, batch_size: int, first: int = 0, every: int = 1
) -> Iterator[tuple[Images, Labels]]:
    """Batches in order, for evaluation; the last one may be short.

    Args:
        indices: None means all images.
        first, every: give batch `first` and every so many after it.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    indices = torch.arange(len(data)) if indices is None else indices
    begun: deque[Take] = deque()
    for start in range(first * batch_size, len(indices), every * batch_size):
        begun.append(data.begin(indices[start : start + batch_size]))
        if len(begun) > data.ahead:
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()
