"""`datanas fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.parameters import Flag, MaxMacs, Overrides, Plugin, Quiet, Recipe, Seed, given_options
from datanas.core.errors import ConfigError


def run(
    *given: Overrides,
    time: Annotated[str, Parameter(help="For all of it, such as 3m, 10m or 2h.")] = "10m",
    task: Annotated[
        str | None, Parameter(help="What to do with the data; by default what such data are usually for.")
    ] = None,
    config: Recipe = None,
    seed: Seed = None,
    max_macs: MaxMacs = None,
    race: Annotated[
        Flag, Parameter(negative="--no-race", help="Choose among trained candidates where there is time.")
    ] = True,
    reference: Annotated[
        list[str] | None,
        Parameter(negative="", help="A timm model, or another network by name, to compare with; may be repeated."),
    ] = None,
    weights: Annotated[
        Path | None, Parameter(help="File of weights that the training of --reference starts from.")
    ] = None,
    plan: Annotated[Flag, Parameter(help="Print the plan and stop; nothing is written.")] = False,
    same_plan_as: Annotated[
        Path | None, Parameter(help="Folder of a fit whose plan is repeated, however long it takes.")
    ] = None,
    resume: Annotated[Path | None, Parameter(help="Folder of a fit to go on with.")] = None,
    plugin: Plugin = (),
    quiet: Quiet = False,
) -> None:
    """Search, choose, train and export a network for your data within a time; started again, go on.

    datanas fit pictures --time 10m --run.name mine && datanas predict runs/mine other.jpg

    DATA is a folder of class folders, an .npz of arrays, a .csv of paths and classes, a text or a folder of texts, or
    the name of a data set with --data.root. Any setting can follow as --SECTION.KEY VALUE.
    """
    data, overrides = (given[0], given[1:]) if given and not given[0].startswith("-") else (None, given)
    if data is None and resume is None:
        raise ConfigError("fit needs data: a folder, a file, or the name of a data set")
    raw, pairs = given_options(config, overrides, seed, plugin)
    from datanas.core.console import telling
    from datanas.fitting.fit import fit, read_time, settings_of
    from datanas.fitting.recognise import tell
    from datanas.report.cells import cell_text

    bound = None if max_macs is None else _macs(max_macs)
    references = _names(reference or [], weights)
    if plan:
        from datanas.fitting.planning import make_plan

        if data is None:
            raise ConfigError("--plan: plans a new fit; give its data")
        settings = settings_of(data, task, raw, pairs)
        print(tell(settings))
        print(make_plan(settings, read_time(time), max_macs=bound, races=race, others=references).text())
        return
    result = fit(
        data,
        time,
        task=task,
        config=raw,
        overrides=pairs,
        max_macs=bound,
        races=race,
        references=references,
        same_plan_as=same_plan_as,
        resume=resume,
        quiet=quiet,
    )
    with telling(f"the fit is complete in {result.path}"):
        print(cell_text(result.architecture))
        print(result.outcome.text())
        print(f"written to {result.path}: {result.export.name}/ (datanas predict {result.path} INPUT), fit.json")


def _names(given: Sequence[str], weights: Path | None) -> list[str]:
    """The names of networks to compare with; what is no network of ours is one of timm's.

    Raises:
        ConfigError: weights without a network, or for several.
    """
    from datanas.references import references

    if weights is not None and len(given) != 1:
        raise ConfigError("--weights: belong to one --reference; of several say which: --reference timm:NAME@FILE")
    names = [name if ":" in name or (weights is None and name in references) else f"timm:{name}" for name in given]
    return names if weights is None else [f"{names[0]}@{weights}"]


def _macs(text: str) -> int:
    from datanas.kernels.hardware import read_macs

    try:
        return read_macs(text)
    except ValueError as error:
        raise ConfigError(f"--max-macs: {error}") from None
