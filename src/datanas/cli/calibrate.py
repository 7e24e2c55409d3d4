"""`datanas calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.parameters import Flag, Overrides, Plugin, Quiet, Recipe, Seed, resolve_options
from datanas.core.console import say
from datanas.core.errors import ConfigError


def run(
    *overrides: Overrides,
    config: Recipe = None,
    seed: Seed = None,
    plugin: Plugin = (),
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Table to write (JSON) beside the user's cache.")
    ] = None,
    csv: Annotated[Path | None, Parameter(help="File for the times of the networks that the fit has not seen.")] = None,
    plot: Annotated[Path | None, Parameter(help="Picture of these, predicted against measured.")] = None,
    batch: Annotated[int, Parameter(help="Examples in a forward pass.")] = 1,
    fitted: Annotated[int, Parameter(help="Random networks that the fit takes.")] = 30,
    held_out: Annotated[int, Parameter(help="Further ones that it is checked on.")] = 20,
    rounds: Annotated[
        int, Parameter(help="How often everything is timed, in turn; as often again while the times have not settled.")
    ] = 20,
    again: Annotated[Flag, Parameter(help="Measure anew, even where this was measured before.")] = False,
    quiet: Quiet = False,
) -> None:
    """Time every candidate operation at the shapes of a recipe's rebuilt network, and say how well that predicts.

    What it finds is kept for this user, machine, number of threads and version of torch; a bound on the latency stands
    on it. datanas calibrate -c recipe.yaml --threads 1
    """
    if plot is not None and plot.suffix.lower() not in (".svg", ".png"):
        raise ConfigError(f"--plot: {plot}: a picture's name must end in .svg or .png")
    settings = resolve_options(config, overrides, seed, plugin)
    from datanas.engine.calibrate import calibrate
    from datanas.report.latency import latency_csv, plot_latency

    def on_block(rounds: int, error: float) -> None:
        if not quiet:
            say(f"{rounds} rounds, of which two halves differ by {100 * error:.1f} %")

    table = calibrate(
        settings, fitted=fitted, held_out=held_out, rounds=rounds, batch=batch, again=again, on_block=on_block
    )
    print(table)
    if output is not None:
        table.save(output)
        print(f"written to {output}")
    if table.held_out is not None:
        measured, predicted = table.held_out.measured_ms, table.held_out.predicted_ms
        if csv is not None:
            latency_csv(measured, predicted, csv)
        if plot is not None:
            plot_latency(measured, predicted, plot)
