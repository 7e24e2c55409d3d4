"""What is wrong with a cell that a search would keep, said while there is time to stop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from datanas.architecture import Architecture, Cell
from datanas.spaces.base import Space

FLAT = 0.98
IDENTITY_SHARE = 2 / 3


def inspect(
    architecture: Architecture, space: Space, flatness: Mapping[str, float], cells: int | None = None
) -> list[str]:
    """One line for each fault: a collapsed cell, a flat P, a node without input, operations that lead nowhere.

    Args:
        architecture: the one that would be kept.
        space: tells which of its primitives are identities, which learn nothing, and what is live.
        flatness: by group, normalised entropy of P; 1 prefers nothing.
        cells: of the network that would be trained; None where none will be.
    """
    lines = []
    for name, cell in architecture.cells.items():
        lines += _collapse(name, cell, space)
        if flatness.get(name, 0.0) >= FLAT:
            lines.append(
                f"{name}: P is still flat (normalised entropy {flatness[name]:.3f}); the number of samples decides how "
                "many operations are kept, and chance which; search longer or raise search.alpha.lr"
            )
        targets = dict.fromkeys(target for _, target in cell.edges)
        empty = [str(node) for node in targets if not _row_sum(cell, node)]
        if empty:
            lines.append(f"{name}: no input for node {', '.join(empty)}")
    if cells is not None and (dead := space.count_live(architecture, cells).text()):
        lines.append(f"in a network of {cells} cell{'s' if cells > 1 else ''} {dead}")
    return lines


def is_collapsed(architecture: Architecture, space: Space) -> bool:
    """Whether a cell is empty, has no operation with parameters, or is mostly identities."""
    return any(_collapse(name, cell, space) for name, cell in architecture.cells.items())


def _collapse(name: str, cell: Cell, space: Space) -> list[str]:
    counts = dict(zip(cell.primitives, cell.code.sum(axis=0).tolist(), strict=True))
    total = sum(counts.values())
    if total == 0:
        return [f"{name}: collapsed, every edge is none"]
    skips = sum(counts.get(primitive, 0) for primitive in space.identities(name))
    free = sum(counts.get(primitive, 0) for primitive in space.parameter_free(name))
    if free == total:
        return [f"{name}: collapsed, none of its {total} operations has parameters"]
    if skips > IDENTITY_SHARE * total:
        return [f"{name}: collapsing, {skips} of its {total} operations are identities"]
    return []


def _row_sum(cell: Cell, node: int) -> int:
    rows = [index for index, (_, target) in enumerate(cell.edges) if target == node]
    return int(np.asarray(cell.code)[rows].sum())
