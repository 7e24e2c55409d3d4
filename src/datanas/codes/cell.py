"""Cell: one choice group of an architecture. Plain data, no torch.

A cell is a directed acyclic graph; its code says for each edge and candidate operation whether it is used, and an edge
may use several at once (DATA, Sec. 3.1, Eq. 2-3).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datanas.core.checks import check_nodes, read_edge, read_integer, read_list, read_name
from datanas.core.errors import ArchitectureError

MAX_COUNT = 9  # a count is one digit in the file


@dataclass(frozen=True, eq=False)
class Cell:
    """One choice group: a directed acyclic graph and the operations chosen on its edges.

    Nodes 0 .. inputs-1 are the inputs; every further node has at least one edge into it, from lower nodes only.

    Attributes:
        primitives: the candidate operations, all different.
        edges: (source, target) pairs, in the order of the code's rows.
        outputs: the nodes whose values form the output of the cell.
        code: uint8, (edges, ops), read-only: how often each operation is used, 0..9. The column of `none` is cleared,
            since `none` is absence.
        inputs: the number of input nodes.

    Raises:
        ArchitectureError: a field breaks one of these rules; the message begins with its place ("edges[3]: ...").
    """

    primitives: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]
    code: NDArray[np.uint8]
    inputs: int

    def __post_init__(self) -> None:
        names = read_list(read_name, self.primitives, "primitives")
        inputs = read_integer(self.inputs, "inputs", low=1)
        edges = read_list(read_edge, self.edges, "edges")
        targets = {target for _, target in edges}
        nodes = inputs + len(targets)
        for i, (_, target) in enumerate(edges):
            if target < inputs:
                raise ArchitectureError(f"edges[{i}]: target {target} is an input node; these are 0..{inputs - 1}")
        if not edges or max(targets) >= nodes:
            missing = next(node for node in count(inputs) if node not in targets)
            raise ArchitectureError(f"edges: node {missing} needs an edge into it")
        outputs = read_list(read_integer, self.outputs, "outputs")
        check_nodes(outputs, nodes, "outputs")
        code = np.array(self.code)
        if code.shape != (len(edges), len(names)):
            raise ArchitectureError(f"code: must have shape {(len(edges), len(names))}, got {code.shape}")
        if code.dtype.kind not in "biuf" or not np.isin(code, np.arange(MAX_COUNT + 1)).all():
            raise ArchitectureError(f"code: entries must be whole numbers from 0 to {MAX_COUNT}")
        if "none" in names:
            code[:, names.index("none")] = 0
        # An array over bytes cannot be made writeable again.
        code = np.frombuffer(code.astype(np.uint8).tobytes(), np.uint8).reshape(code.shape)
        for field, value in (
            ("primitives", tuple(names)),
            ("edges", tuple(edges)),
            ("outputs", tuple(outputs)),
            ("code", code),
            ("inputs", inputs),
        ):
            object.__setattr__(self, field, value)

    @property
    def nodes(self) -> int:
        """The number of nodes, the inputs included and the output not."""
        return self.inputs + len({target for _, target in self.edges})

    def operations(self) -> list[tuple[str, int, int]]:
        """The chosen operations as (primitive, source, target), by target, then source, then order of the primitives.

        An operation used twice on an edge is listed twice.
        """
        rows = sorted(zip(self.edges, self.code.tolist(), strict=True), key=lambda row: row[0][::-1])
        return [
            (name, source, target)
            for (source, target), counts in rows
            for name, times in zip(self.primitives, counts, strict=True)
            for _ in range(times)
        ]

    def node_inputs(self, target: int) -> list[tuple[str, int]]:
        """The chosen operations into node `target` as (primitive, source), in the order of `operations`."""
        return [(name, source) for name, source, node in self.operations() if node == target]

    def _key(self) -> tuple[Any, ...]:
        return self.primitives, self.edges, self.outputs, self.inputs, self.code.tobytes()

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Cell) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling restores arrays as writeable ones; the constructor does not.
        return Cell, (self.primitives, self.edges, self.outputs, np.array(self.code), self.inputs)
