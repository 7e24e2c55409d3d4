"""Search spaces. One file a space; `@register_space(name)` enters its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.spaces.base import Space

spaces: Registry[type[Space]] = Registry("space", "datanas.spaces")
register_space = spaces.register
