"""Candidates as users give them, as named modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType
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
    """What a function draws is not known (`datanas.core.torch_draws.draws_unasked`)."""

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
        ConfigError: there are none, a name cannot be that of a part of a module, a candidate cannot be called, or it is
            a function of a module.
    """
    if not isinstance(candidates, Mapping | nn.ModuleDict):
        raise ConfigError(
            f"candidates must be given by name, such as {{'conv3': ...}}, got {type(candidates).__name__}"
        )
    if len(candidates) == 0:
        raise ConfigError("candidates: a choice needs at least one")
    modules = nn.ModuleDict()
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
        if (part := _module_within(candidate)) is not None:
            raise ConfigError(
                f"candidate {name!r} uses the module {type(part).__name__}, whose weights a function hides; "
                "give the module itself, or a module that holds it"
            )
        try:
            modules[name] = candidate if isinstance(candidate, nn.Module) else Function(candidate)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"candidates: {name!r} cannot be a candidate's name: {error}") from None
    return modules


def _module_within(function: object) -> nn.Module | None:
    """A module that a function reaches: by its object, what it encloses, its defaults or a partial's arguments."""
    seen: set[int] = set()
    left = [function] if not isinstance(function, nn.Module) else []
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, nn.Module):
            return each
        if isinstance(each, partial):
            left += [each.func, *each.args, *each.keywords.values()]
        elif isinstance(each, Mapping):
            left += each.values()
        elif isinstance(each, tuple | list):
            left += each
        elif isinstance(each, MethodType):
            left += [each.__self__, each.__func__]
        elif isinstance(each, FunctionType):
            left += [*(each.__defaults__ or ()), *(each.__kwdefaults__ or {}).values(), *_enclosed(each)]
    return None


def _enclosed(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # nothing is in it yet
            yield cell.cell_contents


def require_name(name: object, where: str) -> None:
    """Refuse what cannot name a part of a module.

    Raises:
        ConfigError: no text, an empty one, or one with a dot, which parts the names in a state dictionary.
    """
    if not isinstance(name, str) or not name or "." in name:
        raise ConfigError(f"{where}: a name is a text without dots, such as 'conv3', got {name!r}")
