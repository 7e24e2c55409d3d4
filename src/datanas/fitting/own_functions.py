"""A loss, a metric and a transform of one's own as settings of a fit, which keeps them by their importable names."""

from __future__ import annotations

from typing import Any

from datanas.core.errors import ConfigError
from datanas.core.own_function import Function, find_function, function_name
from datanas.tasks import tasks

_AUGMENTATIONS = ("search_augment", "train_augment")


def names_of(**given: Function | str | None) -> dict[str, str]:
    """The importable names of what is given, by what it is for ("loss", "metric", "transform").

    Raises:
        ConfigError: one has none, or there is nothing to call under it.
    """
    names = {}
    for what, each in given.items():
        if each is not None:
            names[what] = function_name(each, what)
            try:
                find_function(names[what])
            except ConfigError as error:
                raise ConfigError(f"{what}: {error}") from None
    return names


def settings_of_own(names: dict[str, str], task: str) -> dict[str, Any]:
    """The section `task` with these functions: the transform sees the images of search, race and training.

    Raises:
        ConfigError: the task takes no such function.
    """
    known = tasks[task].Config.model_fields
    section: dict[str, Any] = {}
    for what in ("loss", "metric"):
        if what in names:
            if what not in known:
                raise ConfigError(f"{what}: task {task} has no other {what} than its own; leave it out")
            section[what] = names[what]
    if "transform" in names:
        augmentations = [name for name in _AUGMENTATIONS if name in known]
        if not augmentations:
            raise ConfigError(f"transform: task {task} takes no transform of one's own; leave it out")
        section |= {name: {"transform": names["transform"]} for name in augmentations}
    return {"task": section} if section else {}
