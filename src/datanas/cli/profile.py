"""`datanas profile`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from datanas.cli.options import MaxMacs


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
    batch: Annotated[int, Parameter(help="Examples a batch when timing.")] = 1,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Count parameters and multiply-adds of a rebuilt network, and time it.

    Of a run folder it is the network that the run trained, or the one that its recipe would train; options change it.
    """
    from datanas.engine.profile import profile, profile_run
    from datanas.lookup import find_architecture, run_folder

    run = run_folder(architecture)
    found = find_architecture(architecture)
    options = (channels, cells, classes, size, stem, batch, device, max_macs)
    with found.naming_file():
        print(profile(found, *options) if run is None else profile_run(run, *options))
