"""A training that ends in time: with fewer epochs where the machine has become slower, with more where faster."""

from __future__ import annotations

import time
from collections.abc import Callable

LATE, EARLY = 0.03, 0.15
"""Shares, of the whole time and of the epochs that are left, by which a training may end late or early as it is."""
_LAST_CHANCE = 0.75  # of the epochs: what is added later is made at hardly any learning rate
_HEED = 2 / 3  # of the epoch that was made last, in what the next ones are expected to take


class Deadline:
    """The policy (`datanas.engine.passes.EpochPolicy`) of a training with so much time.

    Args:
        seconds: of the whole that the training is a part of.
        left: seconds from now on until the training must have ended.
        most: epochs that are never exceeded.
        clock: seconds from any start.
    """

    def __init__(
        self, seconds: float, left: Callable[[], float], most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._late, self._left, self._most, self._clock = LATE * seconds, left, most, clock
        self._each: float | None = None
        self._since = 0.0

    def begin(self) -> None:
        """From now on the time belongs to epochs."""
        self._since = self._clock()

    def revise(self, epoch: int, epochs: int) -> int:
        """How many there are to be: as before unless that ends too late, or so early that more can be made."""
        now = self._clock()
        last = max(now - self._since, 1e-9)
        self._since = now
        self._each = each = last if self._each is None else _HEED * last + (1 - _HEED) * self._each
        left, to_come = self._left(), epochs - epoch
        if to_come * each > left + self._late:
            return epoch + max(1, int((left + self._late / 2) / each))
        more = int(left / each)
        if epoch <= _LAST_CHANCE * epochs and more >= to_come * (1 + EARLY) + 1:
            return max(epochs, min(self._most, epoch + more))
        return epochs
