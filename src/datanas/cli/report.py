"""`datanas report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from datanas.core.console import say


def run(
    *runs: Annotated[Path, Parameter(name="RUN", help="Run folders of any kind, complete or not.")],
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="The file; by default report.html in the folder of a single run."),
    ] = None,
) -> None:
    """Show what runs have found as one HTML file: cells, P over time, scores, mistakes, costs, settings.

    datanas report runs/search runs/trained -o report.html
    """
    from datanas.report.page.write import write_report

    written = write_report(runs, output)
    for note in written.notes:
        say(f"warning: {note}")
    print(f"written to {written.path} ({written.size / 1e6:.2f} MB): open it in a browser; it needs nothing else")
