"""The space of a module that a caller holds, rather than one that a file builds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from datanas.blocks.found import Blocks
from datanas.blocks.space import ModuleSpace
from datanas.core.settings import ComponentConfig
from datanas.spaces import MODULE, spaces

_GIVEN: ContextVar[nn.Module | None] = ContextVar("datanas_given_module", default=None)


class GivenSpace(ModuleSpace):
    """The module that was handed to `datanas.search`. Its networks start from the weights that it had then."""

    class Config(ComponentConfig):
        name: Literal["module"] = "module"
        candidates: dict[str, list[str]] = Field(
            {}, description="of every choice of the module, which it must have again when a run goes on"
        )

    name = MODULE

    @classmethod
    def build(cls, settings: Any) -> nn.Module:
        module = _GIVEN.get()
        assert module is not None
        copied = copy.deepcopy(module)
        # Networks are counted on the meta device, on which a module that is there already must be put.
        return copied.to("meta") if torch.get_default_device().type == "meta" else copied


@contextmanager
def given(module: nn.Module) -> Iterator[dict[str, Any]]:
    """Run a block of code in which the space `module` is this module; gives its section of a recipe.

    Raises:
        ConfigError: it has no choices, or blocks of one name with different candidates.
    """
    candidates = {name: list(group.primitives) for name, group in Blocks.of(module).groups().items()}
    token = _GIVEN.set(module)
    try:
        with spaces.lent(MODULE, GivenSpace):
            yield {"name": MODULE, "candidates": candidates}
    finally:
        _GIVEN.reset(token)
