"""What few-shot learning has to show: an episode, class by class."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int64, Shaped
from torch import Tensor

from datanas.core.exhibits import Exhibit, Picture, Pictures
from datanas.tasks.thumbnails import framed, in_a_row, picture_file, to_pixels

QUERIES = 6
"""Queries of a class that are shown, and images that it was learned from."""
_SIDE = 64
_GIVEN, _RIGHT, _WRONG = "#8c8c8c", "#0072b2", "#d55e00"


def episode_exhibits(
    images: Sequence[Shaped[Tensor, "s+q c h w"]], answers: Int64[Tensor, "w q"], shots: int, names: Sequence[str]
) -> Sequence[Exhibit]:
    """A picture for each class.

    Args:
        images: of each class, those to learn from first.
        answers: for each class and query the place of the class that it was taken for.
        shots: images to learn from.
        names: of the classes.
    """
    pictures = []
    for label, (own, predictions) in enumerate(zip(images, answers.tolist(), strict=True)):
        parts = [framed(to_pixels(image, _SIDE), _GIVEN) for image in own[: min(shots, QUERIES)]]
        for image, answer in zip(own[shots : shots + QUERIES], predictions, strict=False):
            parts.append(framed(to_pixels(image, _SIDE), _RIGHT if answer == label else _WRONG))
        right = sum(answer == label for answer in predictions)
        others = sorted({names[answer] for answer in predictions if answer != label})
        taken = f"; others taken for {', '.join(others)}" if others else ""
        caption = f"{names[label]}: {right} of {len(predictions)} recognised{taken}"
        pictures.append(Picture.of_file(picture_file(in_a_row(parts)), caption, f"Class {caption}."))
    legend = (("to learn from", _GIVEN), ("a query, right", _RIGHT), ("a query, wrong", _WRONG))
    note = f"Up to {QUERIES} images of either kind are shown; captions count all queries."
    return [Pictures("An episode", pictures, note, legend)]
