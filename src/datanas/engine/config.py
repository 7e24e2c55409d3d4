"""The whole configuration of a run, and how it is resolved: one section a part, one file a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, field_validator

from datanas.budgets.config import BudgetConfig
from datanas.core.errors import ConfigError, nearest
from datanas.core.registry import Registry, load_plugin
from datanas.core.settings import (
    ComponentConfig,
    MissingSettings,
    Section,
    Written,
    apply_overrides,
    component,
    merge,
    read_yaml,
    typed,
    validate,
)
from datanas.data import datasets
from datanas.engine.sections import RunConfig, SearchConfig, TrainConfig, TruthConfig, train_config
from datanas.references import references
from datanas.samplers import samplers
from datanas.spaces import spaces
from datanas.spaces.base import NetworkBuilder
from datanas.tasks import tasks


class Config(Section):
    """Everything that decides a run, and enough to repeat it."""

    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps; a number alone is that of a CUDA device")
    threads: int | None = Field(None, ge=1, description="CPU threads; null for all cores")
    deterministic: bool = Field(False, description="only deterministic kernels on a GPU; the CPU's always are")
    devices: int = Field(1, ge=1, description="processes on this machine, one a device, that share each batch")
    num_nodes: int = Field(1, ge=1, description="machines")
    strategy: Literal["auto", "ddp"] = Field("auto", description="ddp: replicas with averaged gradients")
    sync_batch_norm: bool = Field(False, description="batch statistics over all processes instead of each its own")
    process_timeout: float = Field(600.0, gt=0, description="seconds until a silent process is lost")
    plugins: tuple[Path, ...] = ()
    run: RunConfig = RunConfig()
    data: SerializeAsAny[ComponentConfig]
    task: SerializeAsAny[ComponentConfig]
    space: SerializeAsAny[ComponentConfig]
    sampler: SerializeAsAny[ComponentConfig]
    search: SearchConfig = SearchConfig()
    train: SerializeAsAny[TrainConfig]
    budget: BudgetConfig = BudgetConfig()
    truth: TruthConfig = TruthConfig()

    @field_validator("device")
    @classmethod
    def numbered(cls, device: str) -> str:
        """`0` as `cuda:0`, as torch has it."""
        return f"cuda:{int(device)}" if device.isascii() and device.isdigit() else device

    def to_yaml(self) -> str:
        """The resolved configuration; reading it back gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


COMPONENTS: dict[str, tuple[Registry[Any], str]] = {
    "data": (datasets, "photos"),
    "task": (tasks, "classification"),
    "space": (spaces, "conv_cell"),
    "sampler": (samplers, "egs"),
}
"""The sections that a registry chooses, with the default."""


def resolve(raw: Mapping[str, Any] | Config | str | Path, overrides: Sequence[tuple[str, object]] = ()) -> Config:
    """A checked configuration from a recipe's path, plain data, or a configuration.

    Args:
        raw: path of a YAML file, nested mapping, or Config.
        overrides: (dotted path, value), laid on top in order. Where they choose another component than `raw` has, the
            settings of the former go (`choose`).

    Raises:
        ConfigError: every fault that was found, a line each.
        MissingSettings: settings without a default are not given, and that is all.

    >>> resolve({"sampler": {"name": "egs"}}, [("sampler.samples", 7)]).sampler.samples
    7
    """
    if isinstance(raw, Config):
        if not overrides:
            return raw
        raw = raw.model_dump(mode="json")
    elif isinstance(raw, str | Path):
        raw = read_yaml(raw)
    data = with_overrides(raw, overrides)
    _load_plugins(data)
    data = _over_defaults(data)
    faults: list[ConfigError] = []
    for section, (registry, default) in COMPONENTS.items():
        try:
            _refuse_reference(section, _name(data.get(section)))
            data[section] = component(registry, section, data.get(section), default)
        except ConfigError as error:
            faults.append(error)
            data[section] = ComponentConfig(name=default)
    try:
        data["train"] = _train(data)
    except ConfigError as error:
        faults.append(error)
        data["train"] = TrainConfig()
    try:
        config = validate(Config, data)
    except ConfigError as error:
        faults.append(error)
    missing = [name for fault in faults if isinstance(fault, MissingSettings) for name in fault.names]
    if faults and all(isinstance(fault, MissingSettings) for fault in faults):
        raise MissingSettings(missing)
    if faults:
        raise ConfigError("\n".join(map(str, faults)))
    _require_fit(config)
    return config


def _train(data: Mapping[str, Any]) -> TrainConfig:
    """The section `train`: training, and the settings of the network that it describes."""
    kind, raw = _network_kind(data), data.get("train", {})
    if isinstance(raw, Mapping):
        raw = kind.own_settings(raw, "train.")
    return validate(train_config(kind.Network), raw, "train")


def _network_kind(data: Mapping[str, Any]) -> type[NetworkBuilder]:
    """Whose network the section `train` describes: that of `train.network`, else of the space."""
    train = data.get("train")
    named = train.get("network") if isinstance(train, Mapping) else None
    if not isinstance(named, str):
        name = _name(data.get("space"))
        return spaces[name if name is not None and name in spaces else COMPONENTS["space"][1]]
    if named not in references and named not in spaces:
        raise ConfigError(f"train.network: no network {named!r} is known; {nearest(named, [*spaces, *references])}")
    return references[named] if named in references else spaces[named]


def _refuse_reference(section: str, name: str | None) -> None:
    if section == "space" and name is not None and name not in spaces and name in references:
        raise ConfigError(f"space.name: in {name} there is nothing to choose; train it by `datanas train {name}`")


def resolved_yaml(raw: Mapping[str, Any], overrides: Sequence[tuple[str, object]] = ()) -> tuple[str, tuple[str, ...]]:
    """The resolved configuration as text, and the names of settings without a default that are still to be given.

    Raises:
        ConfigError: any other fault.
    """
    try:
        return resolve(raw, overrides).to_yaml(), ()
    except MissingSettings as error:
        missing = error.names
    plain = resolve(raw, [*overrides, *((name, "to be given") for name in missing)]).model_dump(mode="json")
    for name in missing:
        *parents, last = name.split(".")
        section = plain
        for part in parents:
            section = section[part]
        del section[last]
    return yaml.safe_dump(plain, sort_keys=False), missing


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """A copy of a recipe with overrides on top, as `resolve` takes them."""
    plugins = [(name, value) for name, value in overrides if name == "plugins"]
    _load_plugins(apply_overrides(raw, plugins))
    named = {name.removesuffix(".name"): value for name, value in overrides}
    return apply_overrides(choose(raw, {section: _name(named.get(section)) for section in COMPONENTS}), overrides)


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with another on top, which may choose other components, as overrides may."""
    return merge(choose(base, {section: _name(over.get(section)) for section in COMPONENTS}), over)


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
    before, after = _chosen(data), _chosen({**data, **named})
    for section in COMPONENTS:
        settings = data.get(section)
        if before[section] != after[section] and isinstance(settings, Mapping):
            kept = _kept(section, before[section], after[section], settings)
            data[section] = {**kept, "name": after[section]} if section in named else kept
    if isinstance(train := data.get("train"), Mapping):
        old, new = (_network_kind({**each, "train": train}).Network.model_fields for each in (before, after))
        data["train"] = {key: value for key, value in train.items() if key in new or key not in old}
    return data


def _chosen(raw: Mapping[str, Any]) -> dict[str, str]:
    """The names of all components that a recipe asks for, defaults included."""
    data = _over_defaults(raw)
    return {section: _name(data.get(section)) or default for section, (_, default) in COMPONENTS.items()}


def _kept(section: str, before: str, after: str, settings: Mapping[str, Any]) -> dict[str, Any]:
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


def _load_plugins(data: dict[str, Any]) -> None:
    """Import the files that `plugins` names, of which it becomes a list.

    Raises:
        ConfigError: it is no list of paths, or one cannot be imported.
    """
    plugins = typed(Config.model_fields["plugins"].annotation, data.get("plugins")) or ()
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


def typed_recipe(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe, or a part of one, in which all that is written is read as its field has it (`settings.typed`)."""
    data = dict(raw)
    _load_plugins(data)
    names = _chosen(data)
    for section, value in data.items():
        if section in COMPONENTS:
            registry, name = COMPONENTS[section][0], names[section]
            data[section] = typed(registry[name].Config if name in registry else Any, value)
        else:
            field = Config.model_fields.get(section)
            kind = train_config(_network_kind(data).Network) if section == "train" else field and field.annotation
            data[section] = typed(kind or Any, value)
    return data


def _over_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, over the defaults of its task, over those of its space.

    A space that is named without a task brings its own.
    """
    data = dict(given)
    space, task = _name(data.get("space")), data.get("task") or {}
    if isinstance(task, Mapping) and "name" not in task:
        usual = COMPONENTS["task"][1]
        data["task"] = {**task, "name": spaces[space].task if space is not None and space in spaces else usual}
    for section in ("task", "space"):
        registry, default = COMPONENTS[section]
        name = _name(data.get(section)) or default
        if name in registry:
            data = _over(_without_foreign(registry[name].defaults, data), data)
    return data


def _without_foreign(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults without those for networks of cells that the network which is trained does not have."""
    space = _name(given.get("space")) or _name(defaults.get("space"))
    foreign = _network_kind({"space": {"name": space}, "train": given.get("train")}).foreign_settings()
    train = {key: value for key, value in defaults.get("train", {}).items() if key not in foreign}
    return {**defaults, "train": train}


def _over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, over defaults, of which those of other components than the given ones do not apply."""
    under, over = dict(defaults), dict(given)
    for section in COMPONENTS.keys() & under.keys():
        raw = over.pop(section, None)
        name = _name(raw)
        if name is not None and name != _name(under[section]):
            under[section] = raw
        elif raw is not None:
            over[section] = {"name": raw} if isinstance(raw, str) else raw
    return merge(under, over)


def _name(raw: object) -> str | None:
    """The component that a section chooses, where it names one."""
    if isinstance(raw, Mapping):
        raw = raw.get("name")
    elif isinstance(raw, ComponentConfig):
        raw = raw.name
    return raw if isinstance(raw, str) else None


def require_held_out(config: Config, *, brings_validation: bool) -> None:
    """Refuse a training that asks for a held-out share it has not, or for one beside that of the data.

    Raises:
        ConfigError: `train.validation` does not suit the task's data, or the rest of `train`.
    """
    train = config.train
    if brings_validation and train.validation > 0:
        raise ConfigError(
            f"train.validation: task {config.task.name} brings a part for validation of its own; leave it at 0, "
            f"got {train.validation}"
        )
    holds_out = train.validation > 0 or train.parts != "train" or brings_validation
    if not train.test and not holds_out:
        raise ConfigError("train: test: false needs a held-out share; set validation")
    if train.average_after is not None and not holds_out:
        raise ConfigError("train.average_after: is decided on a held-out share; set train.validation")


def _require_fit(config: Config) -> None:
    task, train = tasks[config.task.name], config.train
    for section, size in (("search", config.search.batch_size), ("train", train.batch_size)):
        if size < task.smallest_batch:
            raise ConfigError(
                f"{section}.batch_size: must be at least {task.smallest_batch} for task {config.task.name}, got {size}"
            )
    if not task.validation_is_up_to_data:
        require_held_out(config, brings_validation=task.has_validation)
    sampler = samplers[config.sampler.name]
    if config.search.hypergradient.kind == "unrolled" and not sampler.differentiable:
        raise ConfigError(
            f"search.hypergradient: unrolled differentiates through the gates, which sampler {config.sampler.name} "
            "does not; use first_order"
        )
