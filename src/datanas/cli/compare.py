"""`datanas compare`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.parameters import Flag, Overrides, PrintConfig, Quiet, Recipe
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.paths import is_file, shown
from datanas.core.settings import parse_overrides


def run(
    *overrides: Overrides,
    config: Recipe = None,
    resume: Annotated[Path | None, Parameter(help="Folder of a comparison to go on with.")] = None,
    processes: Annotated[int | None, Parameter(help="Runs at a time; by default one a core.")] = None,
    print_config: PrintConfig = False,
    dry_run: Annotated[
        Flag, Parameter(help="Print the plan, with about how long all of it takes; run nothing.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compare search methods on one budget, over several seeds, against controls; with the same run.name again, go on.

    Any setting of the recipe can follow as --SECTION.KEY VALUE, such as --base.data.root PATH --budget.steps 780.
    """
    settings = parse_overrides(overrides)
    if processes is not None:
        settings.append(("processes", processes))
    if config is None:
        if resume is None:
            raise ConfigError("a recipe is needed: datanas compare -c RECIPE; docs/compare.md has one")
        config = resume / "config.yaml"
        if not is_file(config, CheckpointError):
            raise CheckpointError(f"not a comparison: no config.yaml in {shown(resume)}")
    from datanas.comparison.config import resolve_comparison

    recipe = resolve_comparison(config, settings)
    if print_config:
        print(recipe.to_yaml(), end="")
        return
    if dry_run:
        from datanas.comparison.plan import make_plan

        print(make_plan(recipe, timed=True).text(recipe))
        return
    from datanas.comparison.compare import compare
    from datanas.core.atomic import write_atomic
    from datanas.core.console import telling
    from datanas.report.canvas import draw_all
    from datanas.report.comparison import comparison_csv, comparison_markdown, comparison_text
    from datanas.report.comparison_picture import draw_comparison

    result = compare(recipe, resume=resume, quiet=quiet)
    write_atomic(result.path / "table.csv", comparison_csv(result.data).encode())
    write_atomic(result.path / "table.md", comparison_markdown(result.data).encode())
    with telling(f"the comparison is complete in {result.path}"):
        pictures = [result.path / f"comparison.{suffix}" for suffix in ("svg", "png")]
        drawn, failed = draw_all({path: partial(draw_comparison, result.data) for path in pictures})
        print(comparison_text(result.data))
        for warning in failed:
            print(f"warning: {warning}")
        print(f"written to {result.path}: {', '.join(['table.md', 'table.csv', *drawn, 'comparison.json'])}")
