"""`datanas train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.evaluate import figures
from datanas.cli.options import Flag, Overrides, Plugin, Recipe, Seed, find_architecture, resolve_options
from datanas.errors import ConfigError


def run(
    *overrides: Overrides,
    architecture: Annotated[
        str | None,
        Parameter(name=["--architecture", "-a"], help="Architecture file, run folder of a search, or published name."),
    ] = None,
    config: Recipe = None,
    seed: Seed = None,
    resume: Annotated[Path | None, Parameter(help="Run folder to go on with; its configuration holds.")] = None,
    plugin: Plugin = (),
    print_config: Annotated[Flag, Parameter(help="Print the resolved configuration and stop.")] = False,
    dry_run: Annotated[Flag, Parameter(help="Measure one step and estimate the whole run; write nothing.")] = False,
    quiet: Annotated[Flag, Parameter(help="No progress on stderr.")] = False,
) -> None:
    """Train an architecture from scratch and print its test error.

    datanas train runs/my-search -c recipe.yaml --train.epochs 30
    """
    if overrides and not overrides[0].startswith("-") and architecture is None:
        architecture, overrides = overrides[0], overrides[1:]
    if resume is not None:
        if overrides or architecture is not None or config is not None or seed is not None:
            raise ConfigError("--resume: the run's own configuration and architecture hold; give no others")
        settings, chosen = None, None
    else:
        settings = resolve_options(config, overrides, seed, plugin)
        if print_config:
            print(settings.to_yaml(), end="")
            return
        if architecture is None:
            raise ConfigError("train needs an architecture: a file, a search's run folder or a published name")
        chosen = find_architecture(architecture)
    if dry_run:
        if settings is None or chosen is None:
            raise ConfigError("--dry-run and --resume exclude each other")
        from datanas.engine.dry_run import estimate_train

        print(estimate_train(settings, chosen))
        return
    from datanas.engine.train import train

    result = train(chosen, settings, resume=resume, quiet=quiet)
    print(figures(result.evaluation))
    print(f"written to {result.path}: network.safetensors, evaluation.json, metrics.jsonl")
