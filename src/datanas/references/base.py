"""A network in which nothing is chosen, and its place among what can be trained by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from datanas.codes.architecture import Architecture, Cell
from datanas.core.errors import ConfigError
from datanas.core.paths import shown
from datanas.spaces.base import NetworkBuilder


class Reference(NetworkBuilder):
    """One network: `datanas train NAME` trains it under the budget and settings of a searched cell."""

    paper: ClassVar[str]
    """Who published it: authors, title, place and year."""
    note: ClassVar[str]
    """What it is and what it is compared with."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Settings of other sections, nested as in a recipe, that it is trained with whatever a recipe says."""
    is_compared: ClassVar[bool] = True
    """Whether it takes part in races and fronts of its task unasked."""

    @classmethod
    def settings_for(cls, architecture: Architecture, task: str) -> Mapping[str, Any]:
        """`settings` of one network of the kind, where they hang on which it is, or on the task's name."""
        return cls.settings

    @classmethod
    def named(cls, variant: str) -> Architecture:
        """The network that "KIND:VARIANT" names, of a kind that has several.

        Raises:
            ConfigError: there is none of that name.
        """
        raise ConfigError(f"{cls.name} is one network; leave out {shown(variant)!r}")

    @classmethod
    def initial_weights(cls, architecture: Architecture) -> Callable[[nn.Module], Mapping[str, Tensor]] | None:
        """What finds, for a network of it, the weights that its training starts with; None where they are fresh."""
        return None

    @classmethod
    def architecture(cls) -> Architecture:
        """What stands for it where an architecture is asked for: a cell of one operation, which is all of it."""
        cell = Cell((cls.name,), ((0, 1),), (1,), np.ones((1, 1), np.uint8), 1)
        source = {"name": cls.name, "paper": cls.paper, "note": cls.note}
        return Architecture({cls.name: cell}, space=cls.name, source=source)
