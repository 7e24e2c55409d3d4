"""`datanas search`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from datanas.cli.parameters import (
    Devices,
    DryRun,
    NumNodes,
    Overrides,
    Plugin,
    Precision,
    PrintConfig,
    Quiet,
    Recipe,
    Resume,
    Seed,
    Strategy,
    TopologyChange,
    given_options,
    hardware_options,
    print_options,
)
from datanas.core.errors import ConfigError

if TYPE_CHECKING:
    from datanas.codes.accuracy_table import Truth


def run(
    *overrides: Overrides,
    config: Recipe = None,
    seed: Seed = None,
    resume: Resume = None,
    budget: Annotated[
        str | None,
        Parameter(
            name=["--time", "--budget"],
            help="What search and race may take, such as 20m; the settings that are left open are then chosen.",
        ),
    ] = None,
    devices: Devices = None,
    num_nodes: NumNodes = None,
    strategy: Strategy = None,
    precision: Precision = None,
    allow_topology_change: TopologyChange = False,
    plugin: Plugin = (),
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Search an architecture on your data; started again with the same --run.name, go on where it stopped.

    Any setting of a recipe can follow as --SECTION.KEY VALUE, such as --data.name cifar10 --sampler.samples 7.
    """
    overrides = hardware_options(overrides, "search", devices, num_nodes, strategy, precision)
    if print_config and budget is None:
        print_options(config, overrides, seed, plugin, resume)
        return
    raw, given = given_options(config, overrides, seed, plugin, resume)
    from datanas.racing.planning import planned

    is_complete, goes_on = config is not None, resume is not None
    settings = planned(raw, given, budget=budget, has_recipe=is_complete, goes_on=goes_on, quiet=quiet)
    if print_config:
        print(settings.to_yaml(), end="")
        return
    if dry_run:
        if resume is not None:
            raise ConfigError("--dry-run and --resume exclude each other")
        from datanas.engine.dry_run import estimate_search

        print(estimate_search(settings))
        return
    from datanas.core.console import telling
    from datanas.core.joining import is_first
    from datanas.core.text_table import plain_table
    from datanas.engine.data_record import DATA_FILE
    from datanas.racing.search import search
    from datanas.report.cells import cell_text, draw_cells
    from datanas.runs.metrics import add_pictures
    from datanas.tasks import task_measuring

    result = search(settings, resume=resume, quiet=quiet, allow_topology_change=allow_topology_change)
    if not is_first():
        return
    with telling(f"the search is complete in {result.path}"):
        if result.race is not None:
            print(plain_table(result.race.rows, left=(1,)))
            for sentence in result.race.sentences:
                print(sentence)
        drawn, failed = draw_cells(result.architecture, result.path / "cells.svg")
        if "cells.png" in drawn:
            add_pictures(result.path, result.history[-1]["step"], {"cells": result.path / "cells.png"})
        print(cell_text(result.architecture))
        if result.architecture.posterior and "costs" in result.architecture.posterior:
            from datanas.engine.budget import costs_text

            print(costs_text(result.architecture))
        if result.gap is not None:
            gap = result.gap
            task = task_measuring(settings.task, json.loads((result.path / DATA_FILE).read_bytes()))
            supernet, children, child = (
                task.metric.show(value, 2) for value in (gap.supernet, gap.children_mean, gap.child)
            )
            print(f"{task.metric.name}: supernet {supernet}, sampled children {children}, child kept {child}")
        for warning in (*result.warnings, *failed):
            print(f"warning: {warning}")
        if result.truth is not None:
            print(truth_text(result.truth))
        print(f"written to {result.path}: {', '.join(['architecture.json', *drawn, 'metrics.jsonl'])}")


def truth_text(truth: Truth) -> str:
    """What a table says of the cell that was kept, in a line."""
    expected = "" if truth.expected is None else f", expected under P {truth.expected:.2f}"
    return (
        f"{truth.metric}: {truth.value:.2f}, at least as good as {truth.percentile:.1f} % of all cells{expected}, "
        f"best {truth.best:.2f}"
    )
