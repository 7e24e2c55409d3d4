"""Every setting by its dotted name, with what it means: read from the sections that declare them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo

from datanas.core.errors import ConfigError, nearest
from datanas.engine.components import COMPONENTS
from datanas.engine.config import Config

_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", type(None): "null"}


@dataclass(frozen=True)
class Option:
    """A setting.

    Attributes:
        name: dotted, as on the command line.
        kind: what it takes, for people: "whole number, >= 1".
        default: as in a recipe, and as the components and the recipe at hand have it; None where it has to be given.
        description: empty where the name says it all.
    """

    name: str
    kind: str
    default: str | None
    description: str


def options(config: Config, prefix: str = "") -> list[Option]:
    """The settings of the components that a configuration has, in the order of a recipe.

    Args:
        prefix: only those that begin with this, such as "search.alpha".

    Raises:
        ConfigError: there are none.
    """
    all_options = list(_of(config, ""))
    selected = (
        [each for each in all_options if each.name == prefix or each.name.startswith(f"{prefix}.")]
        if prefix
        else all_options
    )
    if not selected:
        names = sorted({part for each in all_options for part in _beginnings(each.name)})
        others = [f"{section}: {', '.join(registry)}" for section, (registry, _) in COMPONENTS.items()]
        raise ConfigError(
            f"options: no setting {prefix!r} with these components; {nearest(prefix, names)}. Other components have "
            f"others: --{'; --'.join(others)}"
        )
    return selected


def recipe_schema(config: Config) -> dict[str, Any]:
    """The JSON schema of recipes with the components of a configuration; every setting may be left out."""
    kinds: dict[str, Any] = {name: (type(getattr(config, name)), None) for name in (*COMPONENTS, "train")}
    recipe: type[BaseModel] = create_model("Recipe", __base__=Config, **kinds)
    schema = recipe.model_json_schema()
    for each in (schema, *schema.get("$defs", {}).values()):
        each.pop("required", None)
    return schema


def _beginnings(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _of(model: BaseModel, path: str) -> Iterator[Option]:
    """Those of a section, and of the sections in it; what the configuration has stands for the default."""
    for name, field in type(model).model_fields.items():
        value, full_name = getattr(model, name), f"{path}{name}"
        if isinstance(value, BaseModel):
            yield from _of(value, f"{full_name}.")
        else:
            yield Option(
                full_name, _kind(field), None if field.is_required() else _text(value), field.description or ""
            )


def _kind(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(each, word):g}"
        for each in field.metadata
        for word, sign in _SIGNS.items()
        if getattr(each, word, None) is not None
    ]
    return ", ".join([_words(field.annotation), *bounds])


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, inner)))
    if origin in (tuple, list):
        return f"list of {_words(inner[0])}" if inner else "list"
    if origin is dict:
        return "mapping"
    if hasattr(annotation, "__metadata__"):
        return _words(inner[0])
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
