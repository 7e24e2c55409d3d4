"""`datanas search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.options import Flag, Overrides, Plugin, Recipe, Seed, resolve_options
from datanas.errors import ConfigError


def run(
    *overrides: Overrides,
    config: Recipe = None,
    seed: Seed = None,
    resume: Annotated[Path | None, Parameter(help="Run folder to go on with; its configuration holds.")] = None,
    plugin: Plugin = (),
    print_config: Annotated[Flag, Parameter(help="Print the resolved configuration and stop.")] = False,
    dry_run: Annotated[Flag, Parameter(help="Measure one step and estimate the whole run; write nothing.")] = False,
    quiet: Annotated[Flag, Parameter(help="No progress on stderr.")] = False,
) -> None:
    """Search an architecture on your data.

    Any setting of a recipe can follow as --SECTION.KEY VALUE, such as --data.name cifar10 --sampler.samples 7.
    """
    if resume is not None and (overrides or config is not None or seed is not None):
        raise ConfigError("--resume: the run's own configuration holds; give no other settings")
    settings = None if resume is not None else resolve_options(config, overrides, seed, plugin)
    if print_config:
        if settings is None:
            from datanas.engine.setup import load_run_config

            settings = load_run_config(resume or ".")
        print(settings.to_yaml(), end="")
        return
    if dry_run:
        if settings is None:
            raise ConfigError("--dry-run and --resume exclude each other")
        from datanas.engine.dry_run import estimate_search

        print(estimate_search(settings))
        return
    from datanas.engine.search import search
    from datanas.report.cells import cell_text, draw_png, draw_svg

    result = search(settings, resume=resume, quiet=quiet)
    draw_svg(result.architecture, result.path / "cells.svg")
    draw_png(result.architecture, result.path / "cells.png")
    print(cell_text(result.architecture))
    if result.gap is not None:
        gap = result.gap
        print(f"supernet {gap.supernet:.2%}, sampled children {gap.children_mean:.2%}, child kept {gap.child:.2%}")
    print(f"written to {result.path}: architecture.json, cells.svg, cells.png, metrics.jsonl")
