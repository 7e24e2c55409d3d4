"""`datanas profile`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from datanas.cli.parameters import Flag, MaxMacs


def run(
    architecture: Annotated[str, Parameter(name="ARCHITECTURE", help="File, run folder, genotype or published name.")],
    /,
    *,
    channels: Annotated[
        int | None, Parameter(help="Channels of the first cell, or hidden units; by default what suits the space.")
    ] = None,
    cells: Annotated[int | None, Parameter(help="Number of cells; by default what suits the space.")] = None,
    classes: Annotated[
        int | None, Parameter(help="Number of classes, or words; by default what the task takes.")
    ] = None,
    size: Annotated[int | None, Parameter(help="Height and width of the images; by default 32.")] = None,
    stem: Annotated[
        Literal["cifar", "cifar_half", "plain", "plain_half", "imagenet"] | None,
        Parameter(help="imagenet reduces the image eightfold first; by default what suits the space."),
    ] = None,
    max_macs: MaxMacs = None,
    batch: Annotated[
        tuple[int, ...],
        Parameter(negative=(), help="Examples a batch when timing; may be repeated. By default 1, then 32."),
    ] = (),
    device: Annotated[str, Parameter(help="auto, cpu, cuda, ...")] = "auto",
    threads: Annotated[int | None, Parameter(help="CPU threads; by default as many as torch takes.")] = None,
    no_memory: Annotated[Flag, Parameter(help="Do not measure memory, which takes a process of its own.")] = False,
    json: Annotated[Flag, Parameter(help="Print JSON.")] = False,
) -> None:
    """Count parameters and multiply-adds of a rebuilt network, time it, and measure the memory that it needs.

    Of a run folder it is the network that the run trained, or the one that its recipe would train; options change it.
    """
    from datanas.engine.profile import BATCHES, profile, profile_run
    from datanas.lookup import find_architecture, run_folder

    run = run_folder(architecture)
    chosen = find_architecture(architecture)
    options = (channels, cells, classes, size, stem, batch or BATCHES, device, max_macs)
    memory = not no_memory
    with chosen.naming_file():
        if run is None:
            measured = profile(chosen, *options, threads=threads, memory=memory)
        else:
            measured = profile_run(run, *options, threads=threads, memory=memory)
    print(measured.to_json() if json else measured)
