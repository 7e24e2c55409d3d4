"""`datanas list`."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Literal

from cyclopts import Parameter

from datanas.cli.options import Plugin

KINDS = {
    "operations": ("datanas.ops", "operations"),
    "spaces": ("datanas.spaces", "spaces"),
    "samplers": ("datanas.samplers", "samplers"),
    "tasks": ("datanas.tasks", "tasks"),
    "data": ("datanas.data", "datasets"),
}
Kind = Literal["operations", "spaces", "samplers", "tasks", "data", "architectures"]


def run(
    kind: Annotated[Kind | None, Parameter(name="KIND", help="Which; everything by default.")] = None,
    /,
    *,
    plugin: Plugin = (),
) -> None:
    """List what can be chosen by name: components and published architectures."""
    from datanas.registry import load_plugin

    for file in plugin:
        load_plugin(file)
    for name, (module, registry) in KINDS.items():
        if kind in (None, name):
            print(f"{name}: {', '.join(getattr(import_module(module), registry))}")
    if kind in (None, "architectures"):
        _print_architectures()


def _print_architectures() -> None:
    from datanas.published import architecture, architectures, references

    print("architectures:")
    for name in architectures():
        source = architecture(name).source or {}
        print(f"  {name:13s} {source['paper']}")
    print("to compare with:")
    for name in references():
        print(f"  {name:13s} {(architecture(name).source or {})['paper']}")
