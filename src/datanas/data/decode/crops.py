"""Which part of a photograph becomes the square that a network sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the upright image."""

ATTEMPTS = 10
DRAWS = 2 * ATTEMPTS + 2
"""Uniform numbers that one random crop is made of."""
LONGEST = 4 / 3
"""Width to height of the flattest crop, and height to width of the steepest."""


@dataclass(frozen=True)
class View:
    """A part of an image, scaled to a square, or to what a network of other images takes.

    Attributes:
        side: of the square, in pixels; otherwise the width.
        cut: from an image's width and height to the part.
        tall: the height where it is not the width.
    """

    side: int
    cut: Callable[[int, int], Box]
    tall: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.side, self.tall or self.side


def centre_square(width: int, height: int, share: float = 1.0, ratio: float = 1.0) -> Box:
    """The square around the centre whose side is a share (0..1] of the shorter side.

    Args:
        ratio: width to height of the part; of another than a square it is the largest that fits, times `share`.
    """
    tall = share * min(height, width / ratio)
    broad = tall * ratio
    left, top = (width - broad) / 2, (height - tall) / 2
    return left, top, left + broad, top + tall


def random_box(width: int, height: int, draws: Sequence[float], smallest: float) -> Box:
    """A crop of random area and shape at a random place (Szegedy et al., CVPR 2015, Section 6).

    Its share of the area is uniform in `smallest`..1 and the logarithm of its width to height uniform between those of
    3/4 and 4/3. Of ten such shapes the first that fits into the image is taken; where none does, the largest part of
    the image around its centre whose shape lies in that range.

    Args:
        draws: DRAWS numbers, uniform in 0..1: area and shape in turn, then the place across and down.
        smallest: share of the area, in (0, 1].
    """
    across, down = draws[2 * ATTEMPTS :]
    for area, shape in zip(draws[0 : 2 * ATTEMPTS : 2], draws[1 : 2 * ATTEMPTS : 2], strict=True):
        pixels = (smallest + (1 - smallest) * area) * width * height
        ratio = LONGEST ** (2 * shape - 1)
        breadth, tall = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if breadth <= width and tall <= height:
            left, top = across * (width - breadth), down * (height - tall)
            return left, top, left + breadth, top + tall
    breadth, tall = min(width, LONGEST * height), min(height, LONGEST * width)
    left, top = (width - breadth) / 2, (height - tall) / 2
    return left, top, left + breadth, top + tall
