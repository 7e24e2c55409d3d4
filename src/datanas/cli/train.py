"""`datanas train`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from datanas.cli.evaluate import figures
from datanas.cli.parameters import (
    Devices,
    DryRun,
    MaxMacs,
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
    hardware_options,
    print_options,
    resolve_options,
)
from datanas.core.errors import ConfigError


def run(
    *overrides: Overrides,
    architecture: Annotated[
        str | None,
        Parameter(name=["--architecture", "-a"], help="Architecture file, run folder, genotype or published name."),
    ] = None,
    config: Recipe = None,
    seed: Seed = None,
    resume: Resume = None,
    devices: Devices = None,
    num_nodes: NumNodes = None,
    strategy: Strategy = None,
    precision: Precision = None,
    max_macs: MaxMacs = None,
    allow_topology_change: TopologyChange = False,
    plugin: Plugin = (),
    print_config: PrintConfig = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Train an architecture from scratch and print what it scores; with the same --run.name again, go on.

    Without a recipe that of the run folder holds which the architecture comes from.

    datanas train runs/my-search -c recipe.yaml --train.epochs 30
    """
    if overrides and not overrides[0].startswith("-") and architecture is None:
        architecture, overrides = overrides[0], overrides[1:]
    overrides = hardware_options(overrides, "train", devices, num_nodes, strategy, precision)
    if max_macs is not None:
        overrides = (*overrides, f"--train.max_macs={max_macs}")
    if print_config:
        print_options(config, overrides, seed, plugin, resume, architecture)
        return
    settings = resolve_options(config, overrides, seed, plugin, resume, architecture)
    if architecture is None and resume is None:
        raise ConfigError("train needs an architecture: a file, a search's run folder or a published name")
    from datanas.lookup import find_architecture

    chosen = None if architecture is None else find_architecture(architecture)
    if dry_run:
        if chosen is None or resume is not None:
            raise ConfigError("--dry-run and --resume exclude each other")
        from datanas.engine.dry_run import estimate_train

        print(estimate_train(settings, chosen))
        return
    from datanas.core.console import telling
    from datanas.core.joining import is_first
    from datanas.engine.train import train
    from datanas.tasks import task_measuring

    result = train(chosen, settings, resume=resume, quiet=quiet, allow_topology_change=allow_topology_change)
    if not is_first():
        return
    with telling(f"the training is complete in {result.path}"):
        print(figures(task_measuring(settings.task), result.evaluation, result.validation))
        if result.dead_parts:
            print(f"note: {result.dead_parts}")
        if settings.train.max_macs is not None:
            print(f"{result.channels} channels, the most within {settings.train.max_macs:,} multiply-adds")
        if result.within:
            print(result.within)
        print(f"written to {result.path}: network.safetensors, evaluation.json, metrics.jsonl")
