"""Search methods. One file a method; `@register_sampler(name)` enters its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.samplers.base import Sampler

samplers: Registry[type[Sampler]] = Registry("sampler", "datanas.samplers")
register_sampler = samplers.register
