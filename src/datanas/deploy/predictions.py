"""What a trained network says of inputs: results with types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHOWN = 3


@dataclass(frozen=True, eq=False, repr=False)
class _Predictions:
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False, repr=False)
class ClassPredictions(_Predictions):
    """The probabilities of classes, or of clusters.

    Attributes:
        names: what each input is called: its path, or "image 0".
        classes: what each column of the probabilities stands for.
        probabilities: (n, classes), float32; each row sums to 1.
    """

    probabilities: NDArray[np.float32]

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,), the number of the likeliest class of each input."""
        indices: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return indices

    @property
    def labels(self) -> tuple[str, ...]:
        """The likeliest class of each input."""
        return tuple(self.classes[index] for index in self.indices)

    def top(self, count: int = 3) -> list[list[tuple[str, float]]]:
        """The likeliest classes of each input, with their probabilities, the likeliest first."""
        order = (-self.probabilities).argsort(axis=1, kind="stable")[:, :count]
        return [
            [(self.classes[index], float(row[index])) for index in best]
            for best, row in zip(order.tolist(), self.probabilities, strict=True)
        ]

    def __repr__(self) -> str:
        best = [f"{name}: {label} {share:.2f}" for name, [(label, share)] in zip(self.names, self.top(1), strict=True)]
        return _short("prediction", best)


@dataclass(frozen=True, eq=False, repr=False)
class LabelPredictions(_Predictions):
    """Which labels hold, each by itself.

    Attributes:
        names: what each input is called.
        classes: what each column of the probabilities stands for.
        probabilities: (n, labels), float32, in 0..1.
    """

    probabilities: NDArray[np.float32]

    def above(self, threshold: float = 0.5) -> list[list[tuple[str, float]]]:
        """The labels of each input whose probability is at least this, the likeliest first."""
        order = (-self.probabilities).argsort(axis=1, kind="stable").tolist()
        return [
            [(self.classes[index], float(row[index])) for index in best if row[index] >= threshold]
            for best, row in zip(order, self.probabilities, strict=True)
        ]

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """The labels that hold of each input: those of a probability of at least 0.5, the likeliest first."""
        return tuple(tuple(name for name, _ in held) for held in self.above())

    def __repr__(self) -> str:
        held = [f"{name}: {', '.join(labels) or 'none'}" for name, labels in zip(self.names, self.labels, strict=True)]
        return _short("prediction", held)


@dataclass(frozen=True, eq=False, repr=False)
class NumberPredictions(_Predictions):
    """Numbers of inputs.

    Attributes:
        names: what each input is called.
        classes: what each column is.
        values: (n, columns), float32.
    """

    values: NDArray[np.float32]

    def __repr__(self) -> str:
        rows = [
            f"{name}: {', '.join(f'{x:.4g}' for x in row)}" for name, row in zip(self.names, self.values, strict=True)
        ]
        return _short("prediction", rows)


@dataclass(frozen=True, eq=False, repr=False)
class MaskPredictions(_Predictions):
    """The class of every pixel.

    Attributes:
        names: what each image is called.
        classes: what each number in a mask stands for.
        masks: of each image (h, w), uint8, as large as the image.
    """

    masks: tuple[NDArray[np.uint8], ...]

    def shares(self) -> Iterator[Mapping[str, float]]:
        """The share of pixels of each class that an image holds, the largest first."""
        for mask in self.masks:
            counts = np.bincount(mask.ravel(), minlength=len(self.classes)) / mask.size
            order = (-counts).argsort(kind="stable").tolist()
            yield {self.classes[index]: float(counts[index]) for index in order if counts[index] > 0}

    def __repr__(self) -> str:
        shown = [f"{name}: {mask.shape[1]}x{mask.shape[0]}" for name, mask in zip(self.names, self.masks, strict=True)]
        return _short("mask", shown)


@dataclass(frozen=True)
class TextPrediction:
    """How well a text is foretold.

    Attributes:
        name: of the file, or "text 0".
        perplexity: of the text, read as one sequence.
        words: how many were foretold, an end of a sentence a line among them.
        unknown: how many of them the network does not know.
    """

    name: str
    perplexity: float
    words: int
    unknown: int


def _short(what: str, entries: Sequence[str]) -> str:
    more = ", ..." if len(entries) > _SHOWN else ""
    return f"<{len(entries)} {what}{'s' * (len(entries) != 1)}: {', '.join(entries[:_SHOWN])}{more}>"
