"""A figure by which networks are measured: its name, which way is better, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One figure of a task's `evaluate`.

    >>> Metric("accuracy").show(0.912)
    '91.2%'
    >>> Metric("perplexity", is_share=False, higher_is_better=False).oriented(85.0)
    -85.0

    Attributes:
        name: its key among the figures.
        is_share: whether it lies in 0..1 and is shown in per cent.
        higher_is_better: whether the higher value is the better one.
        counts_examples: whether it is the share of the test examples that are right, each counted by itself.
        has_error: whether what is left to 1 is a share of mistakes, which is told first where a network is measured.
        digits: that are shown after the point where nothing else is said.
    """

    name: str
    is_share: bool = True
    higher_is_better: bool = True
    counts_examples: bool = False
    has_error: bool = False
    digits: int = 1

    def show(self, value: float, digits: int | None = None) -> str:
        """A value for people: "91.2%" of a share, otherwise "85.3"."""
        digits = self.digits if digits is None else digits
        return f"{value:.{digits}%}" if self.is_share else f"{value:.{digits}f}"

    def show_difference(self, value: float) -> str:
        """A difference of two values for people: "+1.2 points" of shares, otherwise "+1.2"."""
        return f"{100 * value:+.1f} points" if self.is_share else f"{value:+.{self.digits}f}"

    def show_interval(self, mean: float, low: float, high: float) -> str:
        """A difference with its interval for people: "+1.2 [-0.3, +2.7]", of shares in points."""
        digits = 1 if self.is_share else self.digits
        scaled = (self.scale * each for each in (mean, low, high))
        return "{:+z.{d}f} [{:+z.{d}f}, {:+z.{d}f}]".format(*scaled, d=digits)

    def show_range(self, low: float, high: float) -> str:
        """The ends of an interval of values for people: "88.1 to 91.0", of shares in per cent."""
        digits = 1 if self.is_share else self.digits
        return f"{self.scale * low:.{digits}f} to {self.scale * high:.{digits}f}"

    def oriented(self, value: float) -> float:
        """The value as a number of which the higher is the better."""
        return value if self.higher_is_better else -value

    @property
    def scale(self) -> float:
        """What a value is multiplied by where it is shown: 100 of a share, otherwise 1."""
        return 100.0 if self.is_share else 1.0
