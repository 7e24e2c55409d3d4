"""What is wrong with a cell that a search would keep: what can still be mended while it runs, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from datanas.codes.architecture import Architecture, Cell
from datanas.codes.liveness import live_cell
from datanas.network import count_live
from datanas.spaces.base import Space
from datanas.spaces.network_config import NetworkConfig

FLAT = 0.98
IDENTITY_SHARE = 2 / 3


def inspect(
    architecture: Architecture, space: Space, flatness: Mapping[str, float], network: NetworkConfig | None = None
) -> list[str]:
    """One line for each fault that there is still time to mend: a flat P, a node without input, dead operations.

    Args:
        architecture: the one that would be kept.
        space: tells which of its primitives are identities, which learn nothing, and what is live.
        flatness: by group, normalised entropy of P; 1 prefers nothing.
        network: that would be trained; None where none will be.
    """
    lines = []
    for name, cell in architecture.cells.items():
        if flatness.get(name, 0.0) >= FLAT:
            lines.append(
                f"{name}: P is still flat (normalised entropy {flatness[name]:.3f}); the number of samples decides how "
                "many operations are kept, and chance which; search longer or raise search.alpha.lr"
            )
        targets = dict.fromkeys(target for _, target in cell.edges)
        empty = [str(node) for node in targets if not _row_sum(cell, node)]
        if empty:
            lines.append(f"{name}: no input for node {', '.join(empty)}")
    if network is not None and (dead := count_live(architecture, network)).text():
        lines.append(f"in a network of {dead.of} cell{'s' if dead.of > 1 else ''} {dead.text()}")
    return lines


def collapse(architecture: Architecture, space: Space, remedy: str = "") -> str | None:
    """In one line, how an architecture has collapsed and what helps; None where it has not.

    A cell has collapsed that is empty, has no operation with parameters, or is mostly identities. What of a cell is
    dead does not count.

    Args:
        remedy: what helps against it.
    """
    faults = [fault for name, cell in architecture.cells.items() if (fault := _collapse(name, cell, space))]
    return f"collapsed: {'; '.join(faults)}. {remedy}".rstrip() if faults else None


def is_collapsed(architecture: Architecture, space: Space) -> bool:
    """Whether a cell is empty, has no operation with parameters, or is mostly identities; the dead part left out."""
    return collapse(architecture, space) is not None


def _collapse(name: str, cell: Cell, space: Space) -> str | None:
    counts = dict(zip(cell.primitives, live_cell(cell).code.sum(axis=0).tolist(), strict=True))
    total = sum(counts.values())
    if total == 0:
        return f"{name}: nothing leads from its inputs to its output"
    skips = sum(counts.get(primitive, 0) for primitive in space.identities(name))
    free = sum(counts.get(primitive, 0) for primitive in space.parameter_free(name))
    if free == total:
        return f"{name}: none of its {total} operations has parameters"
    if skips > IDENTITY_SHARE * total:
        return f"{name}: {skips} of its {total} operations are identities"
    return None


def _row_sum(cell: Cell, node: int) -> int:
    rows = [index for index, (_, target) in enumerate(cell.edges) if target == node]
    return int(np.asarray(cell.code)[rows].sum())
