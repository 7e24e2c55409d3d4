"""`datanas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from datanas.cli.parameters import Overrides
from datanas.core.settings import parse_overrides


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a finished training.")],
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where to write; a new or an empty folder, or a new file.")],
    /,
    *overrides: Overrides,
    to: Annotated[
        Literal["folder", "onnx"], Parameter(help="A folder that datanas and timm load, or one ONNX file.")
    ] = "folder",
    check: Annotated[
        Path | None, Parameter(help="Images by which the ONNX file is checked against the network; by default noise.")
    ] = None,
) -> None:
    """Write a trained network with its model card into a folder that datanas and timm load, or as an ONNX file."""
    if to == "onnx":
        from datanas.core.errors import ConfigError
        from datanas.deploy.onnx_file import export_onnx

        if overrides:
            raise ConfigError(f"--to onnx: takes no settings, got {' '.join(overrides)}")
        error = export_onnx(path, folder, check)
        print(f"written to {folder}: takes images in 0..1; differs from the network by {error:.1e} at most")
        return
    from datanas.deploy.export import export
    from datanas.deploy.load import CONFIG_FILE, WEIGHTS_FILE

    export(path, folder, parse_overrides(overrides))
    print(f"written to {folder}: {WEIGHTS_FILE}, {CONFIG_FILE}, README.md")
