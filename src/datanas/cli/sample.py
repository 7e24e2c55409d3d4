"""`datanas sample`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.parameters import Overrides, Plugin, Recipe, Seed, resolve_options


def run(
    *overrides: Overrides,
    config: Recipe = None,
    seed: Seed = None,
    plugin: Plugin = (),
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Architecture file to write; otherwise it is printed.")
    ] = None,
) -> None:
    """Draw a cell of a space uniformly, as a search that chooses nothing would: to compare with what one found.

    datanas sample -c recipe.yaml --seed 1 -o random.json && datanas train random.json -c recipe.yaml
    """
    settings = resolve_options(config, overrides, seed, plugin)
    from datanas.core.seeding import generator
    from datanas.engine.random_cells import random_cells

    (cell,) = random_cells(settings, 1, generator(settings.seed, "random cell"))
    cell = replace(cell, source={"method": "uniformly random", "seed": settings.seed})
    if output is None:
        print(cell.to_json())
        return
    cell.save(output)
    print(f"{cell.to_genotype()}\nwritten to {output}")
