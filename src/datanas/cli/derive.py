"""`datanas derive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.options import Flag


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a search.")],
    /,
    *,
    top: Annotated[int, Parameter(name=["--top", "-n"], help="How many of the likeliest architectures to list.")] = 1,
    samples: Annotated[int | None, Parameter(help="M, where it should differ from the search's.")] = None,
    epoch: Annotated[int | None, Parameter(help="Take what this epoch would have kept instead of the last.")] = None,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="File to write; RUN/architecture.json.")
    ] = None,
    genotype: Annotated[Flag, Parameter(help="Print DARTS' text form and nothing else.")] = False,
) -> None:
    """Derive the most probable architecture of a search, with its probability and margin."""
    from datanas.architecture import Architecture
    from datanas.engine.search import derive
    from datanas.errors import CheckpointError, ConfigError
    from datanas.report.cells import cell_text, draw_png, draw_svg

    if top < 1:
        raise ConfigError(f"--top: must be at least 1, got {top}")
    if epoch is not None:
        file = path / "genotypes" / f"epoch-{epoch:04d}.json"
        if not file.is_file():
            raise CheckpointError(f"{path} has kept nothing for epoch {epoch}: no {file.name} in {file.parent}")
        if top > 1 or samples is not None:
            raise ConfigError("--epoch: --top and --samples need the probabilities of the last epoch")
        ranking: tuple[tuple[Architecture, float], ...] = ((Architecture.load(file), 0.0),)
    else:
        ranking = derive(path, n=top, samples=samples).ranking
    kept = ranking[0][0]
    if genotype:
        print(kept.to_genotype())
        return
    target = output if output is not None else path / "architecture.json"
    kept.save(target)
    draw_svg(kept, target.with_name("cells.svg"))
    draw_png(kept, target.with_name("cells.png"))
    print(cell_text(kept))
    for place, (architecture, log_prob) in enumerate(ranking[1:], start=2):
        print(f"{place:3d}. log P {log_prob:.3f}  {architecture.to_genotype()}")
    print(f"written to {target}")
