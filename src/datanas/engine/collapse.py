"""What is wrong with a cell that a search would keep: what can still be mended while it runs, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
    flat = {name: flatness[name] for name in architecture.cells if flatness.get(name, 0.0) >= FLAT}
    if flat:
        entropies = " to ".join(dict.fromkeys(f"{each:.3f}" for each in (min(flat.values()), max(flat.values()))))
        groups = space.groups()
        is_single = all(groups[name].single for name in flat if name in groups)
        what = "" if is_single else "the number of samples decides how many operations are kept, and "
        lines.append(
            f"{', '.join(flat)}: P is still flat (normalised entropy {entropies}); {what}chance "
            f"{'decides which operations are kept' if is_single else 'which'}; search longer or raise search.alpha.lr"
        )
    for name, cell in architecture.cells.items():
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
    dead does not count. A whole network (`Space.is_one_network`) is judged as one: a stage of identities is a choice of
    its depth. One of a single choice may choose anything.

    Args:
        remedy: what helps against it.
    """
    counts = {name: _count(name, cell, space) for name, cell in architecture.cells.items()}
    if space.is_one_network:
        whole = _Count(*np.sum([*counts.values()], axis=0).tolist())
        counts = {"the network": whole} if whole.operations != 1 else {}
    faults = [f"{name}: {fault}" for name, count in counts.items() if (fault := count.fault())]
    return f"collapsed: {'; '.join(faults)}. {remedy}".rstrip() if faults else None


def is_collapsed(architecture: Architecture, space: Space) -> bool:
    """Whether a cell is empty, has no operation with parameters, or is mostly identities; the dead part left out."""
    return collapse(architecture, space) is not None


class _Count(NamedTuple):
    """How many live operations there are, how many of them are identities, and how many learn nothing."""

    operations: int
    identities: int
    parameter_free: int

    def fault(self) -> str | None:
        if self.operations == 0:
            return "nothing leads from its inputs to its output"
        if self.parameter_free == self.operations:
            return f"none of its {self.operations} operations has parameters"
        if self.identities > IDENTITY_SHARE * self.operations:
            return f"{self.identities} of its {self.operations} operations are identities"
        return None


def _count(name: str, cell: Cell, space: Space) -> _Count:
    counts = dict(zip(cell.primitives, live_cell(cell).code.sum(axis=0).tolist(), strict=True))
    identities, free = (
        sum(counts.get(primitive, 0) for primitive in names)
        for names in (space.identities(name), space.parameter_free(name))
    )
    return _Count(sum(counts.values()), identities, free)


def _row_sum(cell: Cell, node: int) -> int:
    rows = [index for index, (_, target) in enumerate(cell.edges) if target == node]
    return int(np.asarray(cell.code)[rows].sum())
