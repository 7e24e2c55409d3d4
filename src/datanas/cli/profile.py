"""`datanas profile`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from datanas.cli.options import find_architecture


def run(
    architecture: Annotated[str, Parameter(name="ARCHITECTURE", help="File, run folder or published name.")],
    /,
    *,
    channels: Annotated[int, Parameter(help="Channels of the first cell.")] = 36,
    cells: Annotated[int, Parameter(help="Number of cells.")] = 20,
    classes: Annotated[int, Parameter(help="Number of classes.")] = 10,
    size: Annotated[int, Parameter(help="Height and width of the images.")] = 32,
    stem: Annotated[
        Literal["cifar", "imagenet"], Parameter(help="imagenet reduces the image eightfold first.")
    ] = "cifar",
    batch: Annotated[int, Parameter(help="Images a batch when timing.")] = 1,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Count parameters and multiply-adds of a rebuilt network, and time it."""
    from datanas.engine.profile import profile

    print(profile(find_architecture(architecture), channels, cells, classes, size, stem, batch, device))
