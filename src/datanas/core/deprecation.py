"""Older names of what others have written against: they still work, and say what they are called now."""

from __future__ import annotations

import warnings
from collections.abc import Mapping


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Say that something has another name now.

    Args:
        stacklevel: as in `warnings.warn`, of the caller of this function.
    """
    warnings.warn(f"{old} is called {new} now; the older name goes with 0.3", DeprecationWarning, stacklevel + 1)


def take_older_methods(cls: type, names: Mapping[str, str]) -> None:
    """Give what a class defines under older names of methods or attributes the newer ones too.

    Args:
        cls: a class that was just made, in `__init_subclass__`.
        names: newer names by older ones.
    """
    for old, new in names.items():
        if old in vars(cls) and new not in vars(cls):
            warn_renamed(f"{cls.__name__}.{old}", new, 3)
            setattr(cls, new, vars(cls)[old])
