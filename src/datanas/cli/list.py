"""`datanas list`."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Literal

from cyclopts import Parameter

from datanas.cli.parameters import Plugin

KINDS = {
    "operations": ("datanas.ops", "operations"),
    "activations": ("datanas.ops.activations", "activations"),
    "spaces": ("datanas.spaces", "spaces"),
    "samplers": ("datanas.samplers", "samplers"),
    "tasks": ("datanas.tasks", "tasks"),
    "data": ("datanas.data", "datasets"),
}
Kind = Literal["operations", "activations", "spaces", "samplers", "tasks", "data", "architectures", "references"]


def run(
    kind: Annotated[Kind | None, Parameter(name="KIND", help="Which; everything by default.")] = None,
    /,
    *,
    plugin: Plugin = (),
) -> None:
    """List what can be chosen by name: components, published architectures, networks to compare them with."""
    from datanas.core.registry import load_plugin

    for file in plugin:
        load_plugin(file)
    for name, (module, registry) in KINDS.items():
        if kind in (None, name):
            print(f"{name}: {', '.join(getattr(import_module(module), registry))}")
    for name in ("architectures", "references"):
        if kind in (None, name):
            _print_papers(name)


def _print_papers(kind: str) -> None:
    from datanas.lookup import architecture, architectures
    from datanas.references import references

    print(f"{kind}:")
    for name in architectures() if kind == "architectures" else references:
        source = architecture(name).source or {}
        print(f"  {name:13s} {source['paper']}")
