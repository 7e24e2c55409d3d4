"""`datanas pareto`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.parameters import Overrides, Quiet, paths_and_overrides
from datanas.core.errors import ConfigError


def run(
    *runs: Overrides,
    resume: Annotated[Path | None, Parameter(help="Folder of a front to go on with.")] = None,
    cost: Annotated[str, Parameter(help="What is bounded: macs, parameters, size, memory or latency.")] = "macs",
    bounds: Annotated[
        str | None,
        Parameter(help="Such as 1M,2M,4M; by default in equal ratios up to what the likeliest network costs."),
    ] = None,
    points: Annotated[int, Parameter(help="How many bounds, where none are given.")] = 5,
    epochs: Annotated[int | None, Parameter(help="Of each training; by default train.epochs.")] = None,
    random: Annotated[int, Parameter(help="Random networks within each bound to compare with.")] = 1,
    processes: Annotated[int | None, Parameter(help="Trainings at a time; by default one a core or GPU.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train what a search would keep within one bound after another, and show accuracy against cost.

    datanas pareto runs/mine --cost macs --bounds 1M,2M,4M --epochs 8

    RUN is the folder of a finished search. Random networks within the same bounds are trained alike. Settings of the
    trainings can follow as --train.KEY VALUE, the front's own folder as --run.name.
    """
    paths, pairs = paths_and_overrides(runs)
    if len(paths) > 1:
        raise ConfigError(f"a front is of one search, got {len(paths)}: {', '.join(map(str, paths))}")
    from datanas.core.console import telling
    from datanas.core.text_table import plain_table
    from datanas.racing.pareto import pareto
    from datanas.racing.within_bounds import read_bounds
    from datanas.report.canvas import draw_all
    from datanas.report.front import plot_front

    if processes is not None:
        pairs = [*pairs, ("search.race.processes", processes)]
    result = pareto(
        paths[0] if paths else None,
        cost=cost,  # type: ignore[arg-type]
        bounds=() if bounds is None else read_bounds(cost, bounds),
        points=points,
        epochs=epochs,
        random=random,
        settings=pairs,
        resume=resume,
        quiet=quiet,
    )
    with telling(f"the front is complete in {result.path}"):
        print(plain_table(result.rows, left=(1,)))
        for sentence in result.sentences:
            print(sentence)
        drawn, failed = draw_all({result.path / "front.svg": lambda file: plot_front(result.data, file)})
        for warning in failed:
            print(f"warning: {warning}")
        print(f"written to {result.path}: {', '.join([*drawn, 'front.csv', 'table.md', 'architectures'])}")
