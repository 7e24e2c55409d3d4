"""Episodes of few-shot learning (Vinyals et al., NeurIPS 2016): which images of which classes.

Shapes: e episodes, w ways (classes of an episode), s shots (images a class to learn from) and q queries (to recognise).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import Labels


@dataclass(frozen=True)
class EpisodeShape:
    """Ways, shots and queries of an episode."""

    way: int
    shot: int
    query: int

    @property
    def each(self) -> int:
        """Images of one class."""
        return self.shot + self.query

    @property
    def images(self) -> int:
        """Images of the whole episode."""
        return self.way * self.each


class EpisodeSampler:
    """Episodes of some classes, each equally likely, whatever its size.

    Args:
        labels: of the images, counted from 0.
        names: of the labels.
        shape: of an episode.
        chosen: the numbers of the classes to draw from; None for all.
        part, setting: the part of the data and the section of the configuration that gives the shape, for messages.

    Raises:
        DataError: fewer classes than ways, or a class of fewer images than shots and queries.
    """

    def __init__(
        self,
        labels: Labels,
        names: Sequence[str],
        shape: EpisodeShape,
        chosen: Int64[Tensor, " m"] | None = None,
        *,
        part: str,
        setting: str,
    ) -> None:
        labels = labels.cpu()
        self.shape = shape
        self.chosen = torch.arange(len(names)) if chosen is None else chosen
        self._members = labels.argsort(stable=True)
        sizes = torch.bincount(labels, minlength=len(names))
        self._starts, self._sizes = (sizes.cumsum(0) - sizes)[self.chosen], sizes[self.chosen]
        if len(self.chosen) < shape.way:
            raise DataError(
                f"{setting}.way: episodes of {shape.way} classes cannot be drawn from the part {part!r}, which has "
                f"{len(self.chosen)}; set fewer ways, or give more classes"
            )
        smallest = int(self._sizes.argmin())
        if self._sizes[smallest] < shape.each:
            raise DataError(
                f"{setting}: class {names[int(self.chosen[smallest])]!r} of the part {part!r} has "
                f"{int(self._sizes[smallest])} images, an episode takes {shape.each} of each class ({shape.shot} to "
                f"learn from, {shape.query} to recognise); set fewer shots or queries, or give more images"
            )

    @property
    def members(self) -> Int64[Tensor, " n"]:
        """The places of all images of these classes."""
        return torch.cat([self._members[a : a + n] for a, n in zip(self._starts, self._sizes, strict=True)])

    def draw(self, episodes: int, generator: torch.Generator) -> Int64[Tensor, "e w s+q"]:
        """The places of the images of some episodes, those to learn from first in each class.

        Classes of an episode are distinct, and so are the images of a class: both are a random order, cut off.
        """
        way, each = self.shape.way, self.shape.each
        classes = torch.rand(episodes, len(self._sizes), generator=generator).argsort(dim=1)[:, :way]
        chance = torch.rand(episodes, way, int(self._sizes.max()), generator=generator)
        absent = torch.arange(chance.shape[2]) >= self._sizes[classes][..., None]
        within_class = chance.masked_fill(absent, 2.0).topk(each, dim=2, largest=False).indices
        return self._members[self._starts[classes][..., None] + within_class]
