"""What a task asks of labelled images, wherever they lie: in memory (`ImageSet`) or in files (`FileSet`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, Self

import torch
from jaxtyping import Int64
from torch import Tensor

from datanas.data.base import Images, Labels

Take = Callable[[], tuple[Images, Labels]]
"""Gives the images that have been begun, waiting for them where they are not there yet."""


class ImageSource(Protocol):
    """Labelled images that are read batch by batch."""

    @property
    def labels(self) -> Labels:
        """The class of each, int64."""

    @property
    def ahead(self) -> int:
        """How many batches are worth beginning before they are asked for."""

    @property
    def crops(self) -> bool:
        """Whether training images come cut out at random, so that nobody need crop them again."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """The same images, handed out on a device."""

    def with_labels(self, labels: Labels) -> Self:
        """The same images under other labels."""

    def begin(
        self, indices: Int64[Tensor, " m"], share: slice = slice(None), crop: torch.Generator | None = None
    ) -> Take:
        """Begin to read the images at `indices`, and give a function that takes them and their labels.

        Args:
            share: only these of them; they become what they would among all.
            crop: where to draw random crops from, for training; None gives each image as it is measured.
        """

    def contents(self) -> Iterator[bytes]:
        """What tells these images from others, piece by piece."""
