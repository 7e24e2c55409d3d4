"""How many passes a training makes, and where in its schedule it is, also where their number changes on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

Change = tuple[int, int, int]
"""After which epoch, how many there were to be, how many there are to be from then on."""


@dataclass(frozen=True)
class Passes:
    """The passes that were planned, and each later change: after which one, from how many, to how many.

    >>> Passes(10, ((4, 10, 7),)).at(5.5)  # half of the three that are left make half of the six that were to come
    7.0
    """

    planned: int
    revised: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        before, total = 0, self.planned
        for after, old, new in self.revised:
            if old != total or not before < after < min(old, new):
                raise ValueError(
                    f"after epoch {after} there cannot be {new} in place of {old}, of {total}: a change concerns "
                    "epochs to come, and changes come in order"
                )
            before, total = after, new

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.revised[-1][2] if self.revised else self.planned

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
        for after, _, epochs in self.revised:
            if epoch <= after:
                break
            done += (after - start) * (self.planned - done) / (total - start)
            start, total = after, epochs
        return done + (epoch - start) * ((self.planned - done) / (total - start))

    def changed(self, after: int, epochs: int) -> Passes:
        """With so many in all, from the end of epoch `after` on."""
        return Passes(self.planned, (*self.revised, (after, self.total, epochs)))

    def is_settled_after(self, epoch: int) -> bool:
        """Whether what follows this epoch has been decided: a run that goes on repeats what it was."""
        return bool(self.revised) and epoch <= self.revised[-1][0]


def passes_of(epochs: int, revised: tuple[Change, ...]) -> Passes:
    """What two settings say (`train.epochs`, `train.revised`): changes of another number of epochs are void."""
    return Passes(epochs, revised if revised and revised[0][1] == epochs else ())


class EpochPolicy(Protocol):
    """What decides, after each epoch of a training in one process, how many it makes."""

    def begin(self) -> None:
        """The first step is made now."""
        ...

    def revise(self, epoch: int, epochs: int) -> int:
        """How many there are to be in all, now that `epoch` of `epochs` are done; more than `epoch`."""
        ...
