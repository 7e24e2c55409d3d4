"""How cells, genotypes and documents read plain data: a value of the right form, or an error.

Every function here raises ArchitectureError; the message begins with the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from reprlib import repr as shortened
from typing import Any, TypeVar

import numpy as np

from datanas.core.errors import ArchitectureError, nearest

T = TypeVar("T")


def read_integer(value: Any, where: str, low: int = 0) -> int:
    """A whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ArchitectureError(f"{where}: must be a whole number of at least {low}, got {shortened(value)}")
    return int(value)


def read_name(value: Any, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ArchitectureError(f"{where}: must be a name, got {shortened(value)}")
    return value


def read_edge(value: Any, where: str) -> tuple[int, int]:
    """A pair (source, target) of nodes, the source lower."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ArchitectureError(f"{where}: must be [source, target], got {shortened(value)}")
    source, target = (read_integer(node, where) for node in value)
    if source >= target:
        raise ArchitectureError(f"{where}: source {source} must be lower than target {target}")
    return source, target


def read_list(read: Callable[[Any, str], T], values: Any, where: str) -> list[T]:
    """Each of `values`, at least one and all different, as `read` makes it."""
    if not isinstance(values, (list, tuple)) or not values:
        raise ArchitectureError(f"{where}: must be a list of at least one entry, got {shortened(values)}")
    seen: dict[T, int] = {}
    for i, value in enumerate(values):
        item = read(value, f"{where}[{i}]")
        if seen.setdefault(item, i) != i:
            raise ArchitectureError(f"{where}[{i}]: {item!r} is there already, as {where}[{seen[item]}]")
    return list(seen)


def read_object(value: Any, where: str) -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, Mapping):
        raise ArchitectureError(f"{where}: must be an object with named fields, got {shortened(value)}")
    return value


def check_nodes(nodes: Iterable[int], number: int, where: str) -> None:
    """Make sure that all of `nodes` are below `number`."""
    for i, node in enumerate(nodes):
        if node >= number:
            raise ArchitectureError(f"{where}[{i}]: node {node} does not exist; the nodes are 0..{number - 1}")


def check_keys(given: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] = (), at: str = "") -> None:
    """Make sure that `given` has all required keys and none that is not known."""
    for key in given:
        if key not in required and key not in optional:
            raise ArchitectureError(f"{at}{key}: unknown; {nearest(str(key), [*required, *optional])}")
    for key in required:
        if key not in given:
            raise ArchitectureError(f"{at}{key}: missing")
