"""`datanas report`: run folders in, one HTML file out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from datanas import __version__
from datanas.core.atomic import write_atomic
from datanas.core.errors import ConfigError, StorageError
from datanas.core.paths import exists, is_folder, path_errors, shown
from datanas.report.page.blocks import Part
from datanas.report.page.charts import CONFIG
from datanas.report.page.folder import Folder
from datanas.report.page.run_part import run_part
from datanas.report.page.terms import Terms
from datanas.report.page.together import Named, are_alike, together_sections
from datanas.report.page.vega import require_vega, vega_program
from datanas.runs.overview import Overview, overview

NAME = "report.html"
_MARK = b'<meta name="generator" content="datanas report '
_FRAMES, _PICTURES = 24, 18
"""Epochs that a slider stops at, and pictures of one kind, on a page of one run."""


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        size: of the file, in bytes.
        notes: what it could not show, a line each.
    """

    path: Path
    size: int
    notes: Sequence[str]


def write_report(runs: Sequence[Path], target: Path | None = None) -> Report:
    """Write what some runs have found into one HTML file that needs nothing else.

    Args:
        runs: run folders of any kind, complete or not; the runs inside one, such as those of a fit, come along.
        target: the file; report.html in the folder of a single run by default. An earlier report is replaced.

    Raises:
        CheckpointError: one is no run folder.
        ConfigError: a package is missing; no target for several runs; or what stands there is no report.
        StorageError: the file cannot be written; what stood there before still does.
    """
    require_vega()
    if not runs:
        raise ConfigError("report: of which runs? give run folders, such as runs/mine")
    chosen = list({os.path.realpath(path): path for path in runs}.values())
    target = _target(chosen, target)
    overviews = [*_with_inner([overview(path) for path in chosen])]
    names = _names(overviews)
    named: list[Named] = [
        (name, f"run-{number}", Folder(each))
        for number, (name, each) in enumerate(zip(names, overviews, strict=True), 1)
    ]
    terms, parts = Terms(), []
    if len(named) > 1:
        alike = "of one task and data set" if are_alike(named) else "not all of one task and data set"
        lead = f"{len(named)} runs, {alike}."
        parts.append(Part("together", "Side by side", lead, [*together_sections(named, terms)]))
    frames, pictures = max(6, _FRAMES // len(named)), max(4, _PICTURES // len(named))
    parts += [
        run_part(folder, anchor, terms, frames=frames, pictures=pictures, title=name) for name, anchor, folder in named
    ]
    content = render(parts, names).encode()
    write_atomic(target, content)
    notes = [f"{name}: {fault}" for name, _, folder in named for fault in folder.faults]
    return Report(target, len(content), notes)


def render(parts: Sequence[Part], names: Sequence[str]) -> str:
    """The page."""
    folder = files(__package__)
    read = partial(_read, folder)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(read("page.html")).render(
        parts=parts,
        names=names,
        version=__version__,
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
        style=Markup(read("page.css")),
        script=Markup(read("page.js")),
        vega=Markup(vega_program()),
        config=CONFIG,
        markup=Markup,
    )


def _read(folder: object, name: str) -> str:
    return str(folder.joinpath(name).read_text(encoding="utf-8"))  # type: ignore[attr-defined]


def _target(runs: Sequence[Path], target: Path | None) -> Path:
    """Where to write.

    Raises:
        ConfigError, StorageError: as `write_report`.
    """
    if target is None:
        if len(runs) > 1:
            raise ConfigError("report: of several runs it needs a name: -o report.html")
        return runs[0] / NAME
    with path_errors(target, StorageError):
        if is_folder(target, StorageError):
            raise ConfigError(f"--output: {shown(target)} is a folder; give the name of a file, such as {NAME}")
        if exists(target, StorageError):
            with open(target, "rb") as file:
                if _MARK not in file.read(4096):
                    raise ConfigError(
                        f"--output: {shown(target)} is there already and is no report; choose another name"
                    )
    return target


def _with_inner(runs: Sequence[Overview]) -> Iterator[Overview]:
    for each in runs:
        yield each
        yield from _with_inner(each.inner)


def _names(runs: Sequence[Overview]) -> list[str]:
    """What each is called: the name of its folder, of inner ones and of equal names with the one above."""
    inner = {part.path for each in runs for part in each.inner}
    names = [each.path.name or str(each.path) for each in runs]
    outer = [name for name, each in zip(names, runs, strict=True) if each.path not in inner]
    return [
        name if outer.count(name) == 1 and each.path not in inner else f"{each.path.parent.name}/{name}"
        for name, each in zip(names, runs, strict=True)
    ]
