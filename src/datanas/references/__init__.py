"""Networks in which nothing is chosen, to compare searched ones with. One file a network, `@register_reference`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.references.base import Reference

references: Registry[type[Reference]] = Registry("reference", "datanas.references")
register_reference = references.register
