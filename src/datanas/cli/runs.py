"""`datanas runs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from datanas.cli.parameters import Flag
from datanas.core.errors import ConfigError

if TYPE_CHECKING:
    from datanas.runs.overview import Overview

Action = Literal["list", "show", "compare", "clean"]


def run(
    action: Annotated[Action, Parameter(name="ACTION", help="list, show, compare or clean.")] = "list",
    *paths: Annotated[Path, Parameter(name="RUN", help="Run folders; of list and clean the folder that holds them.")],
    yes: Annotated[Flag, Parameter(help="Of clean: remove what it names.")] = False,
) -> None:
    """Say what runs there are, how far, how good and how large; show one; compare some; clean up.

    datanas runs && datanas runs show runs/mine && datanas runs compare runs/a runs/b && datanas runs clean
    """
    if action in ("list", "clean") and len(paths) > 1:
        raise ConfigError(f"runs {action}: takes one folder of runs, got {len(paths)}")
    root = paths[0] if paths else Path("runs")
    if action == "list":
        _list(root)
    elif action == "clean":
        _clean(root, remove_them=yes)
    elif not paths:
        raise ConfigError(f"runs {action}: which? give run folders, such as runs/mine")
    elif action == "show":
        for path in paths:
            _show(path)
    else:
        _compare(paths)


def _list(root: Path) -> None:
    from datanas.core.text_table import plain_table
    from datanas.runs.overview import overviews

    runs = overviews(root)
    if not runs:
        print(f"no runs in {root}")
        return
    rows = [["name", "kind", "state", "epochs", "score", "parameters", "size", "about"]]
    for each in runs:
        rows.append(_row(each))
        rows += [["  " + cell if index == 0 else cell for index, cell in enumerate(_row(part))] for part in each.inner]
    print(plain_table(rows, left=(0, 1, 2, 4, 7)))


def _row(each: Overview) -> list[str]:
    parameters = "" if each.parameters is None else f"{each.parameters:,}"
    return [each.path.name, each.kind, each.state, each.progress, each.score, parameters, _size(each.size), each.about]


def _show(path: Path) -> None:
    from datanas.report.run_text import run_text

    print(run_text(path))


def _compare(paths: tuple[Path, ...]) -> None:
    from datanas.core.text_table import plain_table
    from datanas.runs.overview import overview

    runs = [overview(path) for path in paths]
    if len({each.about for each in runs}) > 1:
        print("note: these are of different tasks or data, so their scores say nothing of each other")
    rows = [["name", "kind", "state", "epochs", "score", "parameters", "multiply-adds", "started"]]
    for each in runs:
        name, kind, state, progress, score, parameters, *_ = _row(each)
        macs = "" if each.macs is None else f"{each.macs / 1e6:,.1f} M"
        rows.append([name, kind, state, progress, score, parameters, macs, each.started])
    print(plain_table(rows, left=(0, 1, 2, 4, 7)))
    trained = [str(each.path) for each in runs if each.kind == "train" and each.state == "complete"]
    if len(trained) > 1:
        print(f"with intervals, measured anew on the test set: datanas evaluate {' '.join(trained)}")


def _clean(root: Path, *, remove_them: bool) -> None:
    from datanas.runs.overview import removable, remove

    leftovers = list(removable(root))
    for path, size, reason in leftovers:
        if remove_them:
            remove(path)
        print(f"{'removed' if remove_them else 'would remove'} {path} ({_size(size)}): {reason}")
    total = _size(sum(size for _, size, _ in leftovers))
    if not leftovers:
        print(f"nothing to remove in {root}")
    elif not remove_them:
        print(f"{total} in all; --yes removes them")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
