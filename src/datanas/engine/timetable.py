"""Which step of a search does what: progress, pre-training, alpha steps, and the weights' learning rate."""

from __future__ import annotations

from datanas.data.batches import parse_ratio
from datanas.engine.schedules import learning_rate
from datanas.engine.sections import SearchConfig


class Timetable:
    """Functions of a step's number.

    Args:
        settings: of the search.
        steps_per_epoch: weight steps in a pass through their part of the data.
        learns: whether the method makes alpha steps at all.

    Attributes:
        epochs: those of pre-training included.
        turn: steps after which the work of a step repeats.
    """

    def __init__(self, settings: SearchConfig, steps_per_epoch: int, *, learns: bool) -> None:
        self._settings, self._steps_per_epoch, self._learns = settings, steps_per_epoch, learns
        self.turn, self._alpha_turn = (int(part) for part in parse_ratio(settings.steps))
        self.epochs = settings.pretrain_epochs + settings.epochs

    def progress(self, step: int) -> float:
        """Share of the search that is done before `step`; 0 while pre-training."""
        before = self._settings.pretrain_epochs * self._steps_per_epoch
        return max(0, step - before) / (self._settings.epochs * self._steps_per_epoch)

    def pretrains(self, step: int) -> bool:
        """Whether operations are drawn uniformly in step `step`, for the weights alone (Table 10)."""
        return step < self._settings.pretrain_epochs * self._steps_per_epoch

    def alpha_steps(self, step: int) -> int:
        """How many alpha steps are made in step `step`."""
        started = not self.pretrains(step) and self.progress(step) >= self._settings.alpha_start
        return self._alpha_turn if started and self._learns and step % self.turn == 0 else 0

    def weight_rate(self, step: int) -> float:
        """The weights' learning rate in a step of the search, for a batch whose factor is 1."""
        epochs = self._settings.epochs
        return learning_rate(self._settings.weights, self.progress(step) * epochs, epochs)
