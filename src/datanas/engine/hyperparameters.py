"""Which settings tell a run from others, as plain values by dotted names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from datanas.core.errors import ConfigError
from datanas.core.settings import parse_yaml
from datanas.engine.components import COMPONENTS
from datanas.engine.config import Config, resolved_yaml

_OF_OTHERS = {"search": ("train.",), "train": ("search.", "sampler.")}
"""By the kind of a run, what counts for runs of the other kind only."""
_NOT_SHOWN = ("run.", "plugins", "code_folders", "data.root", "process_timeout", "truth.")
"""Where a run and its data lie."""


def hyperparameters(config: Config, kind: str) -> dict[str, bool | float | str]:
    """The seed, the names of the components, and what differs from their defaults.

    Args:
        kind: "search" or "train"; settings of the other are left out.
    """
    plain = config.model_dump(mode="json")
    chosen: dict[str, Any] = {section: {"name": plain[section]["name"]} for section in COMPONENTS}
    if network := plain["train"].get("network"):
        chosen["train"] = {"network": network}
    try:
        defaults = dict(_flat(parse_yaml(resolved_yaml(chosen)[0])))
    except ConfigError:  # components that do not go together without further settings
        defaults = {}
    always = {"seed", *(f"{section}.name" for section in COMPONENTS)}
    left_out = (*_NOT_SHOWN, *_OF_OTHERS.get(kind, ()))
    return {
        name: value
        for name, value in _flat(plain)
        if not name.startswith(left_out) and (name in always or name not in defaults or defaults[name] != value)
    }


def _flat(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | float | str]]:
    for key, value in data.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, bool | int | float | str):
            yield name, value
        else:
            yield name, json.dumps(value)
