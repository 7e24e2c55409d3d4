"""`datanas race`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from datanas.cli.parameters import Flag, MaxMacs, Overrides, Quiet, paths_and_overrides
from datanas.core.errors import ConfigError
from datanas.core.recipes import find_recipe
from datanas.core.settings import read_yaml


def run(
    *runs: Overrides,
    config: Annotated[
        Path | None, Parameter(name=["--config", "-c"], help="Recipe of a race without runs, of random cells alone.")
    ] = None,
    resume: Annotated[Path | None, Parameter(help="Folder of a race to go on with.")] = None,
    time: Annotated[
        str | None, Parameter(help="What all of it may take, such as 20m; by default as long as the search took.")
    ] = None,
    candidates: Annotated[int | None, Parameter(help="6 to 27; by default as many as the time allows.")] = None,
    max_macs: MaxMacs = None,
    published: Annotated[Flag, Parameter(help="Let published cells of the space take part.")] = False,
    searched: Annotated[
        Flag, Parameter(negative="--no-searched", help="Let cells of the search take part; without is a control.")
    ] = True,
    processes: Annotated[int | None, Parameter(help="Trainings at a time; by default one a core or GPU.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train what searches would have kept, and random cells, from scratch in rungs, and keep the best.

    datanas race runs/mine --time 20m && datanas train runs/RACE

    RUN... are folders of finished searches. Settings of the trainings can follow as --train.KEY VALUE, the race's
    own folder as --run.name.
    """
    paths, others = paths_and_overrides(runs)
    if config is not None and paths:
        raise ConfigError("--config: belongs to a race without runs; that of a run is known: leave one of them out")
    given = {
        "time": time,
        "candidates": candidates,
        "max_macs": max_macs,
        "published": published or None,
        "searched": None if searched else False,
        "processes": processes,
    }
    pairs = [*others, *((f"search.race.{name}", value) for name, value in given.items() if value is not None)]
    from datanas.core.console import telling
    from datanas.core.text_table import plain_table
    from datanas.engine.components import with_overrides
    from datanas.racing.judged import free_sizes
    from datanas.racing.race import race
    from datanas.report.cells import cell_text, draw_cells

    settings: Any = pairs
    if config is not None:
        recipe = read_yaml(find_recipe(config))
        free_sizes(recipe, [name for name, _ in pairs])
        settings = with_overrides(recipe, pairs)
    result = race(*paths, settings=settings, resume=resume, quiet=quiet)
    with telling(f"the race is complete in {result.path}"):
        print(plain_table(result.rows, left=(1,)))
        drawn, failed = draw_cells(result.architecture, result.path / "cells.svg")
        print(cell_text(result.architecture))
        for sentence in result.sentences:
            print(sentence)
        for warning in failed:
            print(f"warning: {warning}")
        print(f"written to {result.path}: {', '.join(['architecture.json', *drawn, 'table.md', 'race.json'])}")
