"""A network in which nothing is chosen, and its place among what can be trained by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from datanas.codes.architecture import Architecture, Cell
from datanas.spaces.base import NetworkBuilder


class Reference(NetworkBuilder):
    """One network: `datanas train NAME` trains it under the budget and settings of a searched cell."""

    paper: ClassVar[str]
    """Who published it: authors, title, place and year."""
    note: ClassVar[str]
    """What it is and what it is compared with."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Settings of other sections, nested as in a recipe, that it is trained with whatever a recipe says."""

    @classmethod
    def architecture(cls) -> Architecture:
        """What stands for it where an architecture is asked for: a cell of one operation, which is all of it."""
        cell = Cell((cls.name,), ((0, 1),), (1,), np.ones((1, 1), np.uint8), 1)
        source = {"name": cls.name, "paper": cls.paper, "note": cls.note}
        return Architecture({cls.name: cell}, space=cls.name, source=source)
