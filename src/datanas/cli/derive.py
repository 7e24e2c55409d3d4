"""`datanas derive`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from datanas.cli.parameters import Flag

if TYPE_CHECKING:
    from datanas.codes.architecture import Architecture


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a search.")],
    /,
    *overrides: Annotated[
        str,
        Parameter(
            name="--budget.KEY VALUE",
            allow_leading_hyphen=True,
            help="What the network may cost, such as --budget.macs 2M, and its size, such as --train.cells 8.",
        ),
    ],
    top: Annotated[int, Parameter(name=["--top", "-n"], help="How many of the best architectures to list.")] = 1,
    samples: Annotated[int | None, Parameter(help="M, where it should differ from the search's.")] = None,
    rule: Annotated[
        Literal["likeliest", "top_operations", "top_edges", "best_sample"] | None,
        Parameter(help="How to choose; by default as the search does."),
    ] = None,
    operations: Annotated[int | None, Parameter(help="How many on each edge, for the rule top_operations.")] = None,
    none: Annotated[
        bool | None, Parameter(help="Whether `none` competes in the rules top_operations and top_edges.")
    ] = None,
    candidates: Annotated[int | None, Parameter(help="How many to compare, for the rule best_sample.")] = None,
    raw: Annotated[
        Flag, Parameter(help="The unconditional mode of the paper, whether or not its input reaches its output.")
    ] = False,
    epoch: Annotated[int | None, Parameter(help="Take what this epoch would have kept instead of the last.")] = None,
    checkpoint: Annotated[
        Literal["last", "best"], Parameter(help="Which: best is after the epoch whose child scored best.")
    ] = "last",
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="File to write, pictures beside it; by default RUN/architecture.json, or RUN/derived.json where an "
            "option asks for something else than the search keeps or a race has chosen.",
        ),
    ] = None,
    genotype: Annotated[Flag, Parameter(help="Print DARTS' text form and nothing else.")] = False,
) -> None:
    """Derive the most probable architecture of a search, with its probability and margin."""
    from datanas.core.console import say
    from datanas.core.errors import ConfigError
    from datanas.core.settings import parse_overrides
    from datanas.engine.derive import derive
    from datanas.racing.search import DERIVED_FILE
    from datanas.report.cells import cell_text, draw_cells

    if top < 1:
        raise ConfigError(f"--top: must be at least 1, got {top}")
    others: tuple[tuple[Architecture, float], ...] = ()
    measure = None
    settings = parse_overrides(overrides)
    if unknown := [name for name, _ in settings if name.partition(".")[0] not in ("budget", "train")]:
        raise ConfigError(f"--{unknown[0]}: derive takes settings of budget and train alone")
    otherwise = checkpoint != "last" or any(
        x is not None for x in (samples, rule, operations, none, candidates, raw or None, settings or None)
    )
    if epoch is not None:
        if top > 1 or otherwise:
            raise ConfigError("--epoch: the other options need the probabilities of a checkpoint")
        chosen = _architecture_after(path, epoch)
    else:
        derivation = derive(
            path,
            n=top,
            samples=samples,
            checkpoint=checkpoint,
            rule=rule,
            operations=operations,
            none=none,
            candidates=candidates,
            raw=raw or None,
            settings=settings,
        )
        chosen = replace(derivation.architecture, source=_source(path))
        others, measure = derivation.ranking[1:], derivation.measure
    if genotype:
        print(chosen.to_genotype())
        return
    if output is not None:
        target, picture = output, output.with_suffix(".svg")
    elif otherwise or epoch is not None or (path / DERIVED_FILE).is_file():
        target, picture = path / "derived.json", path / "derived.svg"
    else:
        target, picture = path / "architecture.json", path / "cells.svg"
    chosen.save(target)
    _, failed = draw_cells(chosen, picture, require_storage=True)
    print(cell_text(chosen))
    if "costs" in (chosen.posterior or {}):
        from datanas.engine.budget import costs_text

        print(costs_text(chosen))
    for warning in failed:
        say(f"warning: {warning}")
    for rank, (architecture, value) in enumerate(others, start=2):
        number = "" if measure is None else f"{measure} {value:.3f}  "
        print(f"{rank:3d}. {number}{architecture.to_genotype()}")
    print(f"written to {target}")


def _architecture_after(path: Path, epoch: int) -> Architecture:
    from datanas.codes.architecture import Architecture
    from datanas.core.errors import CheckpointError

    file = path / "genotypes" / f"epoch-{epoch:04d}.json"
    if not file.is_file():
        raise CheckpointError(f"{path} has kept nothing for epoch {epoch}: no {file.name} in {file.parent}")
    return Architecture.load(file)


def _source(path: Path) -> Mapping[str, Any] | None:
    """The note of where it comes from, which the search has written with what it kept last."""
    from datanas.codes.architecture import Architecture

    files = sorted((path / "genotypes").glob("epoch-*.json"))
    return Architecture.load(files[-1]).source if files else None
