"""Networks in which nothing is chosen, to compare searched ones with. One file a network, `@register_reference`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.references.base import Reference

references: Registry[type[Reference]] = Registry("reference", "datanas.references")
register_reference = references.register


def compared_in(tasks: Collection[str]) -> tuple[str, ...]:
    """The names of those that take part unasked in races and fronts of one of these tasks."""
    return tuple(name for name in references if references[name].task in tasks and references[name].is_compared)
