"""The codes of a vector that compete where operations have costs: for each number of entries of each kind the best.

Entries are of one kind if they differ in nothing but their probability. P of a code rises in that of every member
(`posterior`), so of all codes with the same number of each kind the best holds the likeliest of each.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from datanas import posterior
from datanas.core.errors import ConfigError

MOST_CODES = 2_000_000
"""Numbers of entries of each kind that are compared in a vector."""

Members = tuple[int, ...]
RanksByKind = tuple[tuple[int, ...], ...]
"""For each kind the ranks of the members of a code, in rising order."""


class Kinds:
    """The entries of a vector by kind, each kind in falling order of probability.

    Args:
        probs: of each entry.
        kinds: the entries of each; `null` is in none.
        samples: M.
        null: the entry that stands for "none", where there is one.

    Attributes:
        members: of the best code for each number of entries of each kind.
        log_probs: of these codes.

    Raises:
        ConfigError: they are too many.
    """

    def __init__(self, probs: Tensor, kinds: Sequence[Sequence[int]], samples: int, null: int | None) -> None:
        self._probs, self._samples, self._null = probs, samples, null
        self._ranked = [
            sorted((k for k in kind if probs[k] > 0), key=lambda k: (-float(probs[k]), k)) for kind in kinds
        ]
        sizes = [len(kind) for kind in self._ranked]
        _require_few(sizes, samples)
        counts = [
            each for each in _counts(sizes, samples) if any(each) or (null is not None and float(probs[null]) > 0)
        ]
        best: list[RanksByKind] = [tuple(tuple(range(count)) for count in each) for each in counts]
        values = self._values(best)
        self._first = [each for each, value in zip(best, values, strict=True) if value > -math.inf]
        self.members = [self._members(each) for each in self._first]
        self.log_probs = np.array([value for value in values if value > -math.inf])

    def next_best(self, floors: Sequence[float], n: int) -> tuple[list[tuple[float, Members]], bool]:
        """For each code of `log_probs` the n likeliest with its numbers whose log P is at least its floor.

        And whether a floor has left any out.
        """
        waiting: list[list[tuple[float, RanksByKind]]] = [
            [(-value, first)] for value, first in zip(self.log_probs.tolist(), self._first, strict=True)
        ]
        seen = set(self._first)
        codes: list[tuple[float, Members]] = []
        is_cut = False
        for _ in range(n):
            steps: list[tuple[int, RanksByKind]] = []
            for index, heap in enumerate(waiting):
                if heap and -heap[0][0] < floors[index]:
                    is_cut = True
                    heap.clear()
                if heap:
                    value, by_kind = heapq.heappop(heap)
                    codes.append((-value, self._members(by_kind)))
                    lower = [step for step in self._lower(by_kind) if step not in seen]
                    seen.update(lower)
                    steps += [(index, step) for step in lower]
            log_probs = self._values([step for _, step in steps])  # of all at once: a call each would take far longer
            for (index, step), log_prob in zip(steps, log_probs, strict=True):
                if log_prob > -math.inf:
                    heapq.heappush(waiting[index], (-log_prob, step))
        return codes, is_cut

    def _lower(self, by_kind: RanksByKind) -> Iterator[RanksByKind]:
        """One member replaced by the next less probable of its kind."""
        for kind, ranks in enumerate(by_kind):
            for index, rank in enumerate(ranks):
                if rank + 1 < len(self._ranked[kind]) and rank + 1 not in ranks:
                    yield *by_kind[:kind], (*ranks[:index], rank + 1, *ranks[index + 1 :]), *by_kind[kind + 1 :]

    def _members(self, by_kind: RanksByKind) -> Members:
        ranked = zip(self._ranked, by_kind, strict=True)
        return tuple(sorted(kind[rank] for kind, ranks in ranked for rank in ranks))

    def _values(self, sets: Sequence[RanksByKind]) -> list[float]:
        if not sets:
            return []
        chosen = np.zeros((len(sets), len(self._probs)), np.uint8)
        for row, by_kind in enumerate(sets):
            chosen[row, list(self._members(by_kind))] = 1
        codes = torch.from_numpy(chosen)
        log_probs: list[float] = posterior.log_prob(codes, self._probs, self._samples, null=self._null).tolist()
        return log_probs


def _require_few(sizes: Sequence[int], most: int) -> None:
    number = [1] + [0] * most
    for size in sizes:
        number = [sum(number[k - j] for j in range(min(size, k) + 1)) for k in range(most + 1)]
    if sum(number) > MOST_CODES:
        raise ConfigError(
            f"budget: the operations into a node have {len(sizes)} different costs, so that {sum(number):,} codes "
            "would have to be compared; take fewer samples, as by datanas derive --samples 4, or costs by operation"
        )


def _counts(sizes: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    """How many entries of each kind a code may hold, at most `most` together."""
    if not sizes:
        yield ()
        return
    for count in range(min(sizes[0], most) + 1):
        for others in _counts(sizes[1:], most - count):
            yield (count, *others)
