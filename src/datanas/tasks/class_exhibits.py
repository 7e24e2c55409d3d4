"""What classified images have to show: who is taken for whom, each class by itself, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor

from datanas.core.exhibits import Confusion, Exhibit, FigureTable, Picture, Pictures
from datanas.tasks.thumbnails import picture_file, to_pixels

WORST = 18
"""Mistakes that are shown."""
MOST_CLASSES = 200
"""With more, no matrix is kept: its file would be megabytes, and nobody could read it."""
_CLASSES_NOTE = (
    "Recall is the share of a class's images that were recognised, precision the share of the images taken for the "
    "class that are of it; F1 is their harmonic mean."
)


def confusion_counts(
    labels: Int64[Tensor, " n"], answers: Int64[Tensor, " n"], classes: int
) -> Int64[Tensor, "classes classes"]:
    """How often each class (rows) was taken for each (columns)."""
    return (labels * classes + answers).bincount(minlength=classes**2).view(classes, classes)


def class_exhibits(counts: Int64[Tensor, "classes classes"], names: Sequence[str]) -> list[Exhibit]:
    """The matrix, and recall, precision and F1 of each class: tp / row, tp / column, 2 tp / (row + column).

    A figure of a class that has no image, or that nothing was taken for, is None.
    """
    table = counts.tolist()
    right, there, taken = counts.diagonal().tolist(), counts.sum(1).tolist(), counts.sum(0).tolist()
    rows = [
        [name, n, tp / n if n else None, tp / m if m else None, 2 * tp / (n + m) if n + m else None]
        for name, tp, n, m in zip(names, right, there, taken, strict=True)
    ]
    shares = ("recall", "precision", "F1")
    figures = FigureTable("Each class", ("class", "images", *shares), rows, shares, _CLASSES_NOTE)
    return [*([Confusion(tuple(names), table)] if len(names) <= MOST_CLASSES else []), figures]


def mistakes(
    images: Sequence[Tensor], labels: Sequence[int], answers: Sequence[int], sure: Sequence[float], names: Sequence[str]
) -> Pictures:
    """Pictures of images that were taken for another class, with how sure the network was of it (a share)."""
    shown = [
        Picture.of_file(
            picture_file(to_pixels(image)),
            f"{names[label]}, taken for {names[answer]} ({share:.0%})",
            f"An image of class {names[label]} that the network takes for {names[answer]}.",
        )
        for image, label, answer, share in zip(images, labels, answers, sure, strict=True)
    ]
    note = "Those of which the network was surest. In brackets, the probability that it gave to the wrong class."
    return Pictures("The worst mistakes", shown, note)
