"""Tasks. One file a task; `@register_task(name)` enters its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.tasks.base import Task

tasks: Registry[type[Task[Any]]] = Registry("task", "datanas.tasks")
register_task = tasks.register
