"""Candidates as users give them, as named modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from datanas.codes.choice_group import NONE
from datanas.core.errors import ConfigError


class Function(nn.Module):
    """A function as a module.

    Args:
        function: what is called.
    """

    draws_like_unknown = True
    """What a function draws is not known (`datanas.kernels.candidates.may_draw`)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def named_modules(candidates: Mapping[str, Any]) -> nn.ModuleDict:
    """Candidates by name, functions as modules.

    Raises:
        ConfigError: there are none, a name cannot be that of a part of a module, or a candidate cannot be called.
    """
    if not isinstance(candidates, Mapping | nn.ModuleDict):
        raise ConfigError(
            f"candidates must be given by name, such as {{'conv3': ...}}, got {type(candidates).__name__}"
        )
    if len(candidates) == 0:
        raise ConfigError("candidates: a choice needs at least one")
    found = nn.ModuleDict()
    for name, candidate in candidates.items():
        require_name(name, "candidates")
        if name == NONE:
            raise ConfigError(
                f"candidates: the name {NONE!r} is kept for edges of cells; call a candidate that gives zeros by "
                "another one, such as 'zeros': torch.zeros_like"
            )
        if isinstance(candidate, type):
            raise ConfigError(f"candidate {name!r} is a class; make an instance of it: {candidate.__name__}(...)")
        if not callable(candidate):
            raise ConfigError(f"candidate {name!r} must be a module or a function, got {type(candidate).__name__}")
        try:
            found[name] = candidate if isinstance(candidate, nn.Module) else Function(candidate)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"candidates: {name!r} cannot be a candidate's name: {error}") from None
    return found


def require_name(name: object, where: str) -> None:
    """Refuse what cannot name a part of a module.

    Raises:
        ConfigError: no text, an empty one, or one with a dot, which parts the names in a state dictionary.
    """
    if not isinstance(name, str) or not name or "." in name:
        raise ConfigError(f"{where}: a name is a text without dots, such as 'conv3', got {name!r}")
