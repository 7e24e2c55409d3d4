"""Tasks. One file a task; `@register_task(name)` enters its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datanas.core.registry import Registry

if TYPE_CHECKING:
    from datanas.core.settings import ComponentConfig
    from datanas.tasks.base import Task

tasks: Registry[type[Task[Any]]] = Registry("task", "datanas.tasks")
register_task = tasks.register


def task_measuring(settings: ComponentConfig, record: Mapping[str, Any] | None = None) -> type[Task[Any]]:
    """The task of these settings as it measures networks: by a metric of one's own, or as its data ask for.

    Args:
        settings: the section `task`.
        record: what `Task.describe` said of the data, where they are known.
    """
    task = tasks[settings.name].measured_by(settings)
    return task if record is None else task.measuring(record)
