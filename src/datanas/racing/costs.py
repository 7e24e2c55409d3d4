"""What a search costs in time, from measured steps, and how much of it fits into a given one."""

from __future__ import annotations

import math
from dataclasses import dataclass

FEWEST_STEPS, MOST_EPOCHS = 200, 50
"""Of a search: fewer steps tell nothing, and more passes only learn the images by heart (docs/default.md)."""
MEASURED = 3
"""Gaps of a search."""
_FOR_STEPS = 0.85  # of a search's time: the rest is for what a machine does besides


@dataclass(frozen=True)
class Costs:
    """Seconds: of a step and of a measurement of the gap, how long both were measured, and steps of an epoch.

    >>> Costs(step=0.1, measure=1.0, load=1.0, steps=1000).epochs_in(300)
    2
    """

    step: float
    measure: float
    load: float
    steps: int

    def epochs_in(self, seconds: float) -> int:
        """As many as fit; 0 where not even one does."""
        most = max(MOST_EPOCHS, self.fewest_epochs)
        return next((epochs for epochs in range(most, 0, -1) if self.seconds_of(epochs) <= seconds), 0)

    def seconds_of(self, epochs: int) -> float:
        return (epochs * self.steps * self.step + self._beside(epochs)) / _FOR_STEPS

    def steps_in(self, seconds: float) -> int:
        """Of a single epoch that is cut short: as many as fit, but no fewer than tell something."""
        free = seconds * _FOR_STEPS - self._beside(1)
        return min(self.steps, max(FEWEST_STEPS, int(free / self.step)))

    @property
    def fewest_epochs(self) -> int:
        return max(1, math.ceil(FEWEST_STEPS / self.steps))

    def _beside(self, epochs: int) -> float:
        """Reading, and measuring along the way and once at the end."""
        return (min(MEASURED, epochs) + 1) * self.measure + self.load


def epochs_text(count: int) -> str:
    """So many, for people."""
    return "1 epoch" if count == 1 else f"{count} epochs"
