"""A text cut into batches for truncated back-propagation through time, as a function of the step's number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from datanas.core import seeding

HALVES, SPREAD, SHORTEST = 0.05, 5.0, 5.0
"""Of varied lengths (Merity, Keskar and Socher, ICLR 2018, Section 5): the share of half ones, the standard deviation
around either, and the least."""


@dataclass(frozen=True)
class TokenBatch:
    """Words and the words that follow them, at some consecutive steps of several columns of a text.

    Attributes:
        tokens, targets: (time, batch).
        part: of the task's data.
        step: the batch's number.
        begins: whether it stands at the beginning of the columns, so that nothing is carried into it.
    """

    tokens: Int64[Tensor, "time batch"]
    targets: Int64[Tensor, "time batch"]
    part: str
    step: int
    begins: bool


class TokenStream:
    """A text in columns that are read side by side, a stretch of steps at a time, again and again.

    What does not fill the columns evenly, fewer words than there are columns, is left out.

    Args:
        ids: the words of the text, at least `fewest(batch_size)` of them.
        batch_size: columns.
        length: steps of a batch.
        varied: let lengths vary around it, anew in every pass; a pass has as many batches, and leaves out no step.
        seed, part: key the lengths.
    """

    def __init__(
        self, ids: Int64[Tensor, " n"], batch_size: int, length: int, *, varied: bool, seed: int, part: str
    ) -> None:
        if len(ids) < self.fewest(batch_size):
            raise ValueError(f"{len(ids)} words do not fill {batch_size} columns")
        self.batch_size = batch_size
        self.rows = (len(ids) - 1) // batch_size
        used = self.rows * batch_size
        self._tokens = ids[:used].view(batch_size, self.rows).T
        self._targets = ids[1 : used + 1].view(batch_size, self.rows).T
        self.steps_per_epoch = -(-self.rows // length)
        self._length, self._varied = length, varied
        self._seed, self._part = seed, part
        self._epoch, self._ends = -1, self._even()

    @staticmethod
    def fewest(batch_size: int) -> int:
        """Words that a text needs for two steps of so many columns."""
        return 2 * batch_size + 1

    def batch(self, step: int, share: slice = slice(None)) -> TokenBatch:
        """The batch of step `step`, counted from 0 over all passes, or a share of its columns."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._varied and epoch != self._epoch:
            self._epoch, self._ends = epoch, self._uneven(epoch)
        start, end = (0 if index == 0 else self._ends[index - 1]), self._ends[index]
        tokens, targets = self._tokens[start:end, share], self._targets[start:end, share]
        return TokenBatch(tokens.contiguous(), targets.contiguous(), self._part, step, begins=index == 0)

    def _even(self) -> list[int]:
        return [min(self.rows, self._length * count) for count in range(1, self.steps_per_epoch + 1)]

    def _uneven(self, epoch: int) -> list[int]:
        """The ends of a pass's batches: lengths are drawn, then stretched so that they fill the columns."""
        count = self.steps_per_epoch
        generator = seeding.generator(self._seed, f"lengths/{self._part}", epoch)
        middle = torch.where(torch.rand(count, generator=generator) < HALVES, self._length / 2, self._length)
        drawn = torch.normal(middle.double(), SPREAD, generator=generator).clamp_min(SHORTEST).numpy()
        ends = np.rint(self.rows * drawn.cumsum() / drawn.sum()).astype(int)
        least_ends = np.arange(1, count + 1)
        ends = np.maximum.accumulate(np.maximum(ends, least_ends) - least_ends) + least_ends  # no batch is empty
        return [int(end) for end in np.minimum(ends, self.rows - count + least_ends)]
