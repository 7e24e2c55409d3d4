"""Search methods. One file a method; `@register_sampler(name)` enters its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.samplers.interface import BaseSampler

samplers: Registry[type[BaseSampler]] = Registry("sampler", "datanas.samplers")
register_sampler = samplers.register
