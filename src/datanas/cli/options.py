"""`datanas options`."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.parameters import Flag, Overrides, Plugin, Recipe, given_options
from datanas.core.errors import ConfigError


def run(
    *given: Overrides,
    config: Recipe = None,
    plugin: Plugin = (),
    schema: Annotated[Flag, Parameter(help="Print the JSON schema of such recipes, for editors.")] = False,
) -> None:
    """Print settings with what they take, their default and what they mean.

    datanas options search.alpha, or datanas options sampler --sampler.name darts

    PREFIX limits them; components are those of the recipe or of --SECTION.name NAME.
    """
    prefix, overrides = (given[0], given[1:]) if given and not given[0].startswith("-") else ("", given)
    raw, pairs = given_options(config, overrides, None, plugin)
    from datanas.core.settings import MissingSettings
    from datanas.engine.config import resolve
    from datanas.engine.options import options, recipe_schema

    if prefix.startswith("."):
        raise ConfigError(f"options: a name begins with its section, such as search.alpha, got {prefix!r}")
    try:
        resolved = resolve(raw, pairs)
    except MissingSettings as error:  # what has no default is listed, not asked for
        resolved = resolve(raw, [*pairs, *((name, "to-be-given") for name in error.names)])
    if schema:
        print(json.dumps(recipe_schema(resolved), indent=1))
        return
    for option in options(resolved, prefix.rstrip(".")):
        default = "required" if option.default is None else f"default {option.default}"
        print(f"{option.name}: {option.kind}; {default}")
        if option.description:
            print(textwrap.fill(option.description, 110, initial_indent="    ", subsequent_indent="    "))
