"""`datanas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.cli.options import Overrides
from datanas.core.settings import parse_overrides


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a finished training.")],
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where to write; a new or an empty folder.")],
    /,
    *overrides: Overrides,
) -> None:
    """Write a trained network with its model card into a folder that datanas and timm load."""
    from datanas.deploy.export import export
    from datanas.deploy.load import CONFIG_FILE, WEIGHTS_FILE

    export(path, folder, parse_overrides(overrides))
    print(f"written to {folder}: {WEIGHTS_FILE}, {CONFIG_FILE}, README.md")
