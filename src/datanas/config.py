"""The ground that every configuration stands on: sections, overrides, and messages that name the field.

A component declares its own `Config(ComponentConfig)` beside its code, with `name: Literal["its name"]`. The whole of a
run's configuration is `datanas.engine.config.Config`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from datanas.errors import ConfigError, nearest


class Section(BaseModel):
    """A group of settings: immutable, and closed to keys that it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


class ComponentConfig(Section):
    """The settings of a component that a registry names."""

    name: str


SectionT = TypeVar("SectionT", bound=Section)


def validate(model: type[SectionT], raw: object, path: str = "") -> SectionT:
    """Build a section from plain data.

    Args:
        model: the section's class.
        raw: what a file or the command line gave for it.
        path: where the section stands in the whole configuration, for messages ("sampler").

    Raises:
        ConfigError: one line for each fault: the field's path, what was given, what is allowed.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(model, dict(fault), path) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None


def _explain(model: type[BaseModel], fault: dict[str, Any], path: str) -> str:
    location = [str(part) for part in fault["loc"]]
    where = ".".join([*filter(None, [path]), *location]) or "configuration"
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key; {nearest(location[-1], _fields(model, location[:-1]))}"
        case "missing":
            return f"{where}: is required"
        case "greater_than_equal":
            wanted = f"must be at least {context['ge']}"
        case "greater_than":
            wanted = f"must be greater than {context['gt']}"
        case "less_than_equal":
            wanted = f"must be at most {context['le']}"
        case "less_than":
            wanted = f"must be less than {context['lt']}"
        case "literal_error":
            wanted = f"must be {context['expected']}"
        case "value_error":
            wanted = str(context["error"])
            if ", got " in wanted:
                return f"{where}: {wanted}"
        case _:
            wanted = str(fault["msg"]).replace("Input should be", "must be")
    return f"{where}: {wanted}, got {fault['input']!r}"


def _fields(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The names that stand beside an unknown key; of the section itself where a nested one cannot be found."""
    for part in location:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return list(model.model_fields)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: 1:1 is text here, and 1e-3 a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Plain data from YAML text; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A recipe as plain data.

    Raises:
        ConfigError: there is no such file, or it is not a YAML mapping.
    """
    try:
        raw = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of sections, got {type(raw).__name__}")
    return raw


def parse_overrides(tokens: Sequence[str]) -> list[tuple[str, object]]:
    """Read `--section.key value` and `--section.key=value`; a value is YAML.

    Raises:
        ConfigError: a token is no option, or an option has no value.
    """
    overrides: list[tuple[str, object]] = []
    remaining = list(tokens)
    while remaining:
        token = remaining.pop(0)
        if not token.startswith("--") or len(token) == 2:
            raise ConfigError(f"unexpected argument {token!r}; settings are given as --section.key value")
        name, has_value, value = token[2:].partition("=")
        if not has_value:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"--{name}: a value must follow")
            value = remaining.pop(0)
        try:
            overrides.append((name.replace("-", "_"), parse_yaml(value)))
        except yaml.YAMLError:
            overrides.append((name.replace("-", "_"), value))
    return overrides


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """A copy of `raw` with every override set at its dotted path."""
    result = _copy(raw)
    for dotted, value in overrides:
        *parents, last = dotted.split(".")
        section = result
        for depth, part in enumerate(parents):
            child = section.get(part)
            if child is None:
                child = section[part] = {}
            if not isinstance(child, dict):
                here = ".".join(parents[: depth + 1])
                raise ConfigError(f"{dotted}: {here} is a value ({child!r}), not a section")
            section = child
        section[last] = value
    return result


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid on top, section by section."""
    result = _copy(base)
    for name, value in over.items():
        inner = result.get(name)
        result[name] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result


def _copy(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) if isinstance(value, Mapping) else value for name, value in raw.items()}


def component(registry_get: Callable[[str], Any], section: str, raw: object, default: str) -> ComponentConfig:
    """Build the `Config` of the component that `raw["name"]` chooses.

    Args:
        registry_get: the registry's lookup.
        section: where it stands in the whole configuration ("sampler").
        raw: the section's plain data, or the component's name alone.
        default: the name where none is given.

    Raises:
        ConfigError: unknown component, or a fault in its settings.
    """
    if isinstance(raw, ComponentConfig):
        return raw
    if raw is None:
        raw = {}
    if isinstance(raw, str):
        raw = {"name": raw}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{section}: must be a section, got {raw!r}")
    name = raw.get("name", default)
    try:
        entry = registry_get(str(name))
    except ConfigError as error:
        raise ConfigError(f"{section}.name: {error}") from None
    config_class: type[ComponentConfig] = entry.Config
    return validate(config_class, {**raw, "name": name}, section)
