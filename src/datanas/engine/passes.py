"""How many passes a training makes, and where in its schedule it is, also where their number changes on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Passes:
    """The passes that were planned, and each later change: after which one, and how many there are in all from then on.

    >>> Passes(10, ((4, 7),)).at(5.5)  # half of the three that are left make half of the six that were to come
    7.0
    """

    planned: int
    revised: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        before, total = 0, self.planned
        for after, epochs in self.revised:
            if not before < after < min(total, epochs):
                raise ValueError(
                    f"after epoch {after} there cannot be {epochs} in place of {total}: a change concerns epochs to "
                    "come, and changes come in order"
                )
            before, total = after, epochs

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.revised[-1][1] if self.revised else self.planned

    def at(self, epoch: float) -> float:
        """The point of the planned schedule after this many epochs.

        What is left of the schedule is spread evenly over the epochs that are left, so that a training which is cut
        short ends with the same learning rate, and has the same in the middle of what remains.

        Args:
            epoch: epochs done; fractions count.

        Returns:
            Epochs of the plan, from 0 to `planned`; `epoch` itself up to the first change.
        """
        done, start, total = 0.0, 0, self.planned
        for after, epochs in self.revised:
            if epoch <= after:
                break
            done += (after - start) * (self.planned - done) / (total - start)
            start, total = after, epochs
        return done + (epoch - start) * ((self.planned - done) / (total - start))

    def changed(self, after: int, epochs: int) -> Passes:
        """With so many in all, from the end of epoch `after` on."""
        return Passes(self.planned, (*self.revised, (after, epochs)))

    def is_settled_after(self, epoch: int) -> bool:
        """Whether what follows this epoch has been decided: a run that goes on repeats what it was."""
        return bool(self.revised) and epoch <= self.revised[-1][0]


def passes_of(epochs: int, revised: Iterable[tuple[int, int]]) -> Passes:
    """As two settings say it (`train.epochs`, `train.revised`)."""
    return Passes(epochs, tuple((after, total) for after, total in revised))


class Pace(Protocol):
    """What decides, after each epoch of a training in one process, how many it makes."""

    def begin(self) -> None:
        """The first step is made now."""
        ...

    def revise(self, epoch: int, epochs: int) -> int:
        """How many there are to be in all, now that `epoch` of `epochs` are done; more than `epoch`."""
        ...
