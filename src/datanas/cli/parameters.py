"""Options that several commands take, and how they become a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datanas.core.console import say
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.paths import is_file, path_errors, shown
from datanas.core.recipes import find_recipe
from datanas.core.settings import parse_overrides, read_yaml

if TYPE_CHECKING:
    from datanas.engine.config import Config

Overrides = Annotated[
    str,
    Parameter(name="--SECTION.KEY VALUE", allow_leading_hyphen=True, help="Any setting, such as --sampler.samples 7."),
]
Recipe = Annotated[Path | None, Parameter(name=["--config", "-c"], help="Recipe to start from (YAML).")]
Seed = Annotated[int | None, Parameter(help="Decides every random number.")]
Plugin = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--plugin", negative=(), show_default=False, help="Python file that registers components; may be repeated."
    ),
]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
PrintConfig = Annotated[Flag, Parameter(help="Print the resolved configuration and stop.")]
DryRun = Annotated[Flag, Parameter(help="Measure one step and estimate the whole run; write nothing.")]
Quiet = Annotated[Flag, Parameter(help="No progress on stderr.")]
Resume = Annotated[
    Path | None,
    Parameter(help="Run folder to go on with; settings may follow that do not make it another run."),
]
Devices = Annotated[int | None, Parameter(help="Processes on this machine, one a device.")]
NumNodes = Annotated[int | None, Parameter(help="Machines.")]
Strategy = Annotated[str | None, Parameter(help="How processes share the work: auto or ddp.")]
Precision = Annotated[str | None, Parameter(help="float32, or bfloat16 where it is safe.")]
MaxMacs = Annotated[
    str | None, Parameter(help="Multiply-adds, such as 600M: the network becomes as wide as stays within that.")
]
TopologyChange = Annotated[
    Flag, Parameter(help="Go on with another device or number of processes, though not bit for bit.")
]


def resolve_options(
    recipe: Path | None,
    overrides: tuple[str, ...],
    seed: int | None = None,
    plugin: tuple[Path, ...] = (),
    resume: Path | None = None,
    source: str | None = None,
) -> Config:
    """The configuration of a recipe, or of a run that is resumed, with the command line laid on top.

    Args:
        source: what is trained; where it is a run folder, that run's recipe holds where no other is given.

    Raises:
        ConfigError: as `datanas.engine.config.resolve`.
        CheckpointError: `resume` is no run folder.
    """
    raw, settings = given_options(recipe, overrides, seed, plugin, resume, source)
    # Only now: it imports torch, and a slip of the fingers should be told at once.
    from datanas.engine.config import resolve

    return resolve(raw, settings)


def print_options(
    recipe: Path | None,
    overrides: tuple[str, ...],
    seed: int | None = None,
    plugin: tuple[Path, ...] = (),
    resume: Path | None = None,
    source: str | None = None,
) -> None:
    """Print the configuration that `resolve_options` makes of the same; what is still to be given is told on stderr."""
    raw, settings = given_options(recipe, overrides, seed, plugin, resume, source)
    from datanas.engine.config import resolved_yaml

    text, missing = resolved_yaml(raw, settings)
    print(text, end="")
    for name in missing:
        say(f"{name}: is required, and still to be given: --{name} VALUE")


def given_options(
    recipe: Path | None,
    overrides: tuple[str, ...],
    seed: int | None = None,
    plugin: tuple[Path, ...] = (),
    resume: Path | None = None,
    source: str | None = None,
) -> tuple[dict[str, Any], list[tuple[str, object]]]:
    """A recipe as plain data, and the settings to lay on top."""
    if recipe is None and resume is not None:
        recipe = resume / "config.yaml"
        if not is_file(recipe, CheckpointError):
            raise CheckpointError(f"not a run folder: no config.yaml in {shown(resume)}")
    raw = {} if recipe is None else read_yaml(find_recipe(recipe))
    settings = parse_overrides(overrides)
    if source is not None and recipe is None:
        from datanas.engine.earlier_run import with_recipe_of

        raw = with_recipe_of(source, raw, dict(settings))
    if seed is not None:
        settings.append(("seed", seed))
    if plugin:
        known = raw.get("plugins") or []
        known = known if isinstance(known, list) else [known]
        settings.append(("plugins", [*known, *(_whole_path(file) for file in plugin)]))
    return raw, settings


def _whole_path(file: Path) -> str:
    with path_errors(file, ConfigError):
        return os.path.realpath(file)


def paths_and_overrides(tokens: tuple[str, ...]) -> tuple[list[Path], list[tuple[str, object]]]:
    """What stands before the first option, and the settings from there on."""
    count = next((index for index, token in enumerate(tokens) if token.startswith("-")), len(tokens))
    return [Path(token) for token in tokens[:count]], parse_overrides(tokens[count:])


def hardware_options(
    overrides: tuple[str, ...],
    section: str,
    devices: int | None,
    num_nodes: int | None,
    strategy: str | None,
    precision: str | None,
) -> tuple[str, ...]:
    """The options that say where and how a run is computed, behind the other settings.

    Args:
        section: whose precision is meant ("search").
    """
    given = {"devices": devices, "num_nodes": num_nodes, "strategy": strategy, f"{section}.precision": precision}
    return (*overrides, *(f"--{name}={value}" for name, value in given.items() if value is not None))
