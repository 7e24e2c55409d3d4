"""`datanas recipes`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from datanas.core.errors import ConfigError, nearest


def run(
    name: Annotated[str | None, Parameter(name="NAME", help="Print this one; by default all are listed.")] = None, /
) -> None:
    """List the recipes that come with the package, or print one.

    datanas recipes small/cifar10 > mine.yaml, or datanas search -c small/cifar10
    """
    from datanas.core.recipes import recipes, summary

    known = recipes()
    if name is None:
        for each, file in known.items():
            print(f"{each:24s} {summary(file)}")
    elif name in known:
        print(known[name].read_text(encoding="utf-8"), end="")
    else:
        raise ConfigError(f"no recipe {name!r}; {nearest(name, known)}")
