"""The ground that every configuration stands on: sections, overrides, and messages that name the field.

A component declares its own `Config(ComponentConfig)` beside its code, with `name: Literal["its name"]`. The whole of a
run's configuration is `datanas.engine.config.Config`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from datanas.core.errors import ConfigError, nearest
from datanas.core.paths import LONGEST, read_text, shown

if TYPE_CHECKING:
    from datanas.core.registry import Registry


class Section(BaseModel):
    """A group of settings: immutable, and closed to keys that it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


class ComponentConfig(Section):
    """The settings of a component that a registry names."""

    name: str


class MissingSettings(ConfigError):
    """Nothing is wrong with a configuration but that these settings, by their dotted names, are not given."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("\n".join(f"{name}: is required" for name in names))
        self.names = tuple(names)


SectionT = TypeVar("SectionT", bound=Section)


def validate(model: type[SectionT], raw: object, path: str = "") -> SectionT:
    """Build a section from plain data.

    Args:
        model: the section's class.
        raw: what a file or the command line gave for it.
        path: where the section stands in the whole configuration, for messages ("sampler").

    Raises:
        ConfigError: one line for each fault: the field's path, what was given, what is allowed.
        MissingSettings: settings without a default are not given, and that is all.
    """
    try:
        return model.model_validate(typed(model, raw))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        if all(fault["type"] == "missing" for fault in faults):
            raise MissingSettings([_dotted(fault["loc"], path) for fault in faults]) from None
        raise ConfigError("\n".join(_explain(model, dict(fault), path) for fault in faults)) from None


def _dotted(location: Sequence[object], path: str) -> str:
    return ".".join([*filter(None, [path]), *map(str, location)]) or "configuration"


def _explain(model: type[BaseModel], fault: dict[str, Any], path: str) -> str:
    location = [str(part) for part in fault["loc"]]
    where = _dotted(location, path)
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
    return f"{where}: {wanted}, got {shown(repr(fault['input']))}"


def _fields(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The names that stand beside an unknown key; of the section itself where a nested one cannot be found."""
    for part in location:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return list(model.model_fields)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: 1:1 and 2024-01-01 are text here, and 1e-3 a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$"),
    list("-+.0123456789"),
)


class Written(str):
    """A setting as somebody wrote it: whether `007` is a number or a name is for its field to say (`typed`)."""

    __slots__ = ()

    def read(self) -> Any:
        """What it is in YAML, with the numbers and booleans inside a list or section as they are written.

        What is no YAML is text.
        """
        try:
            value = yaml.load(self, Loader=_WrittenLoader)
            return parse_yaml(self) if isinstance(value, Written) else value
        except (yaml.YAMLError, ValueError, RecursionError):
            return str(self)


class _WrittenLoader(_Loader):
    """Leaves numbers and booleans as they are written."""


def _as_written(loader: _WrittenLoader, node: yaml.ScalarNode) -> Written:
    return Written(node.value)


for _kind in ("int", "float", "bool"):
    _WrittenLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _as_written)


def parse_yaml(text: str) -> Any:
    """Plain data from YAML text; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A recipe as nested mappings and lists, whose numbers and booleans are still as they are written (`Written`).

    Raises:
        ConfigError: there is no such file, or it is not a YAML mapping.
    """
    text = read_text(path, ConfigError)
    try:
        raw = yaml.load(text, Loader=_WrittenLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown(path)}: not YAML: {' '.join(str(error).split())[:LONGEST]}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{shown(path)}: must be a mapping of sections, got {type(raw).__name__}")
    return raw


def typed(annotation: Any, value: Any) -> Any:
    """Plain data in which all that is `Written` is read as its field has it.

    A field of text or of a path takes what was written as it stands: a run may be called 007, 1e5, no or null. An empty
    text leaves out a path, or one of a few words, that may be left out; so does `null` of the latter. Anything else is
    read as YAML.

    Args:
        annotation: the field's type, or the section's class; what it does not know is read as YAML.
        value: what a file or the command line gave.
    """
    options = list(_options(annotation))
    if isinstance(value, Written):
        parsed = value.read()
        if _takes_text(options) and not (isinstance(parsed, list | dict) and any(map(get_origin, options))):
            is_left_out = not _takes_any_word(annotation) and (not value or (parsed is None and Path not in options))
            return None if is_left_out and type(None) in options else str(value)
        value = parsed
    if isinstance(value, Mapping):
        fields = next(
            (each.model_fields for each in options if isinstance(each, type) and issubclass(each, BaseModel)), {}
        )
        others = next((get_args(each)[1] for each in options if get_origin(each) is dict), Any)
        keys = {name: str(name) if isinstance(name, Written) else name for name in value}
        return {
            key: typed(fields[key].annotation if key in fields else others, value[name]) for name, key in keys.items()
        }
    if isinstance(value, list):
        return [typed(_item(options, index), each) for index, each in enumerate(value)]
    return value


def _options(annotation: Any) -> Iterator[Any]:
    """The types that a field may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _options(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _options(each)
    elif origin is Literal:
        yield from map(type, get_args(annotation))
    else:
        yield annotation


def _takes_any_word(annotation: Any) -> bool:
    """Whether a field takes text that is not one of a few words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _takes_any_word(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return any(map(_takes_any_word, get_args(annotation)))
    return annotation is str


def _takes_text(options: Sequence[Any]) -> bool:
    return any(each in options for each in (str, Path)) and not any(each in options for each in (int, float, bool, Any))


def _item(options: Sequence[Any], index: int) -> Any:
    """The type of what stands at a place of a list or tuple."""
    for each in options:
        items = get_args(each)
        if get_origin(each) is tuple and items[-1:] != (...,):
            return items[index] if index < len(items) else Any
        if get_origin(each) in (list, tuple, Sequence):
            return items[0]
    return Any


def parse_overrides(tokens: Sequence[str]) -> list[tuple[str, object]]:
    """Read `--section.key value` and `--section.key=value`; a value stays as it is written, for its field to read.

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
        overrides.append((name.replace("-", "_"), Written(value)))
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


def component(registry: Registry[Any], section: str, raw: object, default: str) -> ComponentConfig:
    """Build the `Config` of the component that `raw["name"]` chooses.

    Args:
        registry: of its kind.
        section: where it stands in the whole configuration ("sampler").
        raw: the section's plain data, or the component's name alone.
        default: the name where none is given.

    Raises:
        ConfigError: unknown component, or a fault in its settings.
    """
    if isinstance(raw, ComponentConfig):
        return raw
    if isinstance(raw, Written):
        raw = raw.read()
    if raw is None:
        raw = {}
    if isinstance(raw, str):
        raw = {"name": raw}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{section}: must be a section, got {raw!r}")
    name = raw.get("name", default)
    try:
        entry = registry[str(name)]
    except ConfigError as error:
        raise ConfigError(f"{section}.name: {error}") from None
    config_class: type[ComponentConfig] = entry.Config
    try:
        return validate(config_class, {**raw, "name": name}, section)
    except ConfigError as error:
        if "name" in raw or isinstance(error, MissingSettings):
            raise
        raise ConfigError("\n".join(_naming_default(str(error).splitlines(), registry, section, default))) from None


def _naming_default(lines: Sequence[str], registry: Registry[Any], section: str, default: str) -> Iterator[str]:
    """Messages of unknown keys that also say whose keys are known, where nobody has chosen, and who has such a key."""
    for line in lines:
        where, mark, _ = line.partition(": unknown key; ")
        key = where.removeprefix(f"{section}.")
        owners = [name for name in registry if key in registry[name].Config.model_fields]
        if not mark or not owners:
            yield line
            continue
        yield f"{line}. {section}.name is not given, so that it is {default!r}; {key} is known to {', '.join(owners)}"
