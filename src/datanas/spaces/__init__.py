"""Search spaces. One file a space; `@register_space(name)` enters its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.spaces.base import Space

spaces: Registry[type[Space]] = Registry("space", "datanas.spaces")
register_space = spaces.register

MODULE = "module"
"""The space of an architecture that belongs to a module of a user's own, with choices in it (`datanas.blocks`)."""
spaces.explain(
    MODULE,
    "it is that of a module which a program holds; hand it over, as in datanas.search(module, ...), or rebuild it by "
    "datanas.resolve(module, architecture)",
)
