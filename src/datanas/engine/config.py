"""The whole configuration of a run, and how it is resolved: one section a part, one file a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, field_validator

from datanas.budgets.config import BudgetConfig
from datanas.core.errors import ConfigError
from datanas.core.own_function import code_folder, find_function, named_functions
from datanas.core.settings import ComponentConfig, MissingSettings, Section, component, read_yaml, typed, validate
from datanas.engine.components import (
    COMPONENTS,
    chosen_names,
    load_plugins,
    name_of,
    network_kind,
    over_defaults,
    with_overrides,
)
from datanas.engine.sections import RunConfig, SearchConfig, TrainConfig, TruthConfig, train_config
from datanas.references import references
from datanas.samplers import samplers
from datanas.spaces import spaces
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
    code_folders: tuple[Path, ...] = Field(
        (), description="folders of the modules that task.loss and transform name; noted by itself"
    )
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

    @property
    def widens(self) -> bool:
        """Whether networks become as wide as a bound allows, so that a cell of fewer operations is a wider one."""
        return self.budget.fill or self.train.max_macs is not None or self.search.race.max_macs is not None

    def to_yaml(self) -> str:
        """The resolved configuration; reading it back gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


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
    load_plugins(data)
    data = over_defaults(data)
    faults: list[ConfigError] = []
    for section, (registry, default) in COMPONENTS.items():
        try:
            _refuse_reference(section, name_of(data.get(section)))
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
    return _with_own_functions(config)


def _with_own_functions(config: Config) -> Config:
    """With the folders in which other processes find the functions that settings name.

    Raises:
        ConfigError: one of them cannot be found.
    """
    faults: list[str] = []
    folders: list[Path | None] = []
    for setting, name in named_functions(config):
        try:
            find_function(name, config.code_folders)
            folders.append(code_folder(name))
        except ConfigError as error:
            faults.append(f"{setting}: {error}")
    if faults:
        raise ConfigError("\n".join(faults))
    given = (folder.absolute() for folder in config.code_folders)
    known = tuple(dict.fromkeys(folder for folder in (*folders, *given) if folder is not None))
    return config if known == config.code_folders else config.model_copy(update={"code_folders": known})


def _train(data: Mapping[str, Any]) -> TrainConfig:
    """The section `train`: training, and the settings of the network that it describes."""
    kind, raw = network_kind(data), data.get("train", {})
    if isinstance(raw, Mapping):
        raw = kind.own_settings(raw, "train.")
    return validate(train_config(kind.Network), raw, "train")


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


def typed_recipe(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe, or a part of one, in which all that is written is read as its field has it (`settings.typed`)."""
    data = dict(raw)
    load_plugins(data)
    names = chosen_names(data)
    for section, value in data.items():
        if section in COMPONENTS:
            registry, name = COMPONENTS[section][0], names[section]
            data[section] = typed(registry[name].Config if name in registry else Any, value)
        else:
            field = Config.model_fields.get(section)
            kind = train_config(network_kind(data).Network) if section == "train" else field and field.annotation
            data[section] = typed(kind or Any, value)
    return data


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
