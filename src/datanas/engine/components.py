"""Which components a recipe chooses, as plain data: another one in a section's place, over whose defaults it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datanas.core.errors import ConfigError, nearest
from datanas.core.registry import Registry, load_plugin
from datanas.core.settings import ComponentConfig, Written, apply_overrides, merge, typed
from datanas.data import datasets
from datanas.references import references
from datanas.samplers import samplers
from datanas.spaces import spaces
from datanas.spaces.base import NetworkBuilder
from datanas.tasks import tasks

COMPONENTS: dict[str, tuple[Registry[Any], str]] = {
    "data": (datasets, "photos"),
    "task": (tasks, "classification"),
    "space": (spaces, "conv_cell"),
    "sampler": (samplers, "egs"),
}
"""The sections that a registry chooses, with the default."""


def network_kind(data: Mapping[str, Any]) -> type[NetworkBuilder]:
    """Whose network the section `train` describes: that of `train.network`, else of the space."""
    train = data.get("train")
    named = train.get("network") if isinstance(train, Mapping) else None
    if not isinstance(named, str):
        name = name_of(data.get("space"))
        return spaces[name if name is not None and name in spaces else COMPONENTS["space"][1]]
    if named not in references and named not in spaces:
        raise ConfigError(f"train.network: no network {named!r} is known; {nearest(named, [*spaces, *references])}")
    return references[named] if named in references else spaces[named]


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """A copy of a recipe with overrides on top, as `resolve` takes them."""
    plugins = [(name, value) for name, value in overrides if name == "plugins"]
    load_plugins(apply_overrides(raw, plugins))
    named = {name.removesuffix(".name"): value for name, value in overrides}
    return apply_overrides(choose(raw, {section: name_of(named.get(section)) for section in COMPONENTS}), overrides)


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with another on top, which may choose other components, as overrides may."""
    return merge(choose(base, {section: name_of(over.get(section)) for section in COMPONENTS}), over)


def choose(raw: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    """A recipe with other components, and without the settings that belonged to those which it had.

    Of a data set, a task and a space the settings stay that the other one declares alike: of one type, with one
    default. Of a method none does: another one begins with its own.

    Args:
        names: by section, the component that is wanted; None where nothing is said.
    """
    data = {
        key: {"name": value} if key in COMPONENTS and isinstance(value, str) else value for key, value in raw.items()
    }
    if not any(names.values()):
        return data
    named = {
        section: {**given, "name": name}
        for section, name in names.items()
        if name is not None and isinstance(given := data.get(section) or {}, Mapping)
    }
    before, after = chosen_names(data), chosen_names({**data, **named})
    for section in COMPONENTS:
        settings = data.get(section)
        if before[section] != after[section] and isinstance(settings, Mapping):
            shared = _shared_settings(section, before[section], after[section], settings)
            data[section] = {**shared, "name": after[section]} if section in named else shared
    if isinstance(train := data.get("train"), Mapping):
        old, new = (network_kind({**each, "train": train}).Network.model_fields for each in (before, after))
        data["train"] = {key: value for key, value in train.items() if key in new or key not in old}
    return data


def chosen_names(raw: Mapping[str, Any]) -> dict[str, str]:
    """The names of all components that a recipe asks for, defaults included."""
    data = over_defaults(raw)
    return {section: name_of(data.get(section)) or default for section, (_, default) in COMPONENTS.items()}


def _shared_settings(section: str, before: str, after: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one component that another one keeps; what the first does not know stays, to be told."""
    registry, _ = COMPONENTS[section]
    if before not in registry or after not in registry:
        return {}
    old, new = (registry[name].Config.model_fields for name in (before, after))

    def stays(key: str) -> bool:
        if key == "name" or key not in old:
            return key != "name"
        alike = key in new and (old[key].annotation, old[key].default) == (new[key].annotation, new[key].default)
        return alike and section != "sampler"

    return {key: value for key, value in settings.items() if stays(key)}


def load_plugins(data: dict[str, Any]) -> None:
    """Import the files that `plugins` names, of which it becomes a list.

    Raises:
        ConfigError: it is no list of paths, or one cannot be imported.
    """
    plugins = typed(tuple[Path, ...], data.get("plugins")) or ()
    if isinstance(data.get("plugins"), Written) and not isinstance(plugins, list):
        plugins = str(data["plugins"])
    if isinstance(plugins, str | Path):
        plugins = [plugins]
    if not isinstance(plugins, list | tuple) or not all(isinstance(plugin, str | Path) for plugin in plugins):
        raise ConfigError(f"plugins: must be a list of paths, got {plugins!r}")
    if "plugins" in data:
        data["plugins"] = plugins
    for plugin in plugins:
        load_plugin(plugin)


def over_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, over the defaults of its task, over those of its space.

    A space that is named without a task brings its own.
    """
    data = dict(given)
    space, task = name_of(data.get("space")), data.get("task") or {}
    if isinstance(task, Mapping) and "name" not in task:
        usual = COMPONENTS["task"][1]
        data["task"] = {**task, "name": spaces[space].task if space is not None and space in spaces else usual}
    for section in ("task", "space"):
        registry, default = COMPONENTS[section]
        name = name_of(data.get(section)) or default
        if name in registry:
            data = _over(_without_foreign(registry[name].defaults, data), data)
    return data


def _without_foreign(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults without those for networks of cells that the network which is trained does not have."""
    space = name_of(given.get("space")) or name_of(defaults.get("space"))
    foreign = network_kind({"space": {"name": space}, "train": given.get("train")}).foreign_settings()
    train = {key: value for key, value in defaults.get("train", {}).items() if key not in foreign}
    return {**defaults, "train": train}


def _over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, over defaults, of which those of other components than the given ones do not apply."""
    under, over = dict(defaults), dict(given)
    for section in COMPONENTS.keys() & under.keys():
        raw = over.pop(section, None)
        name = name_of(raw)
        if name is not None and name != name_of(under[section]):
            under[section] = raw
        elif raw is not None:
            over[section] = {"name": raw} if isinstance(raw, str) else raw
    return merge(under, over)


def name_of(raw: object) -> str | None:
    """The component that a section chooses, where it names one."""
    if isinstance(raw, Mapping):
        raw = raw.get("name")
    elif isinstance(raw, ComponentConfig):
        raw = raw.name
    return raw if isinstance(raw, str) else None
