"""One operation that a cell may run, whatever the cell makes of it: a name, a module, an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

GateIndex = tuple[int, int]
"""Edge and operation: where a gate stands in its group's table."""
OperationT_co = TypeVar("OperationT_co", covariant=True)
OtherT = TypeVar("OtherT")


@dataclass(frozen=True)
class CellOperation(Generic[OperationT_co]):
    """One operation that a cell may run.

    Attributes:
        edge, op: its row and column in the group's gates.
        source, target: the node that it reads, and the one that it enters.
        operation: what it is.
        factor: its constant factor in a rebuilt network; unused where gates are given.
    """

    edge: int
    op: int
    source: int
    target: int
    operation: OperationT_co
    factor: float = 1.0

    @property
    def index(self) -> GateIndex:
        return self.edge, self.op

    def built(self, operation: OtherT) -> CellOperation[OtherT]:
        """The same choice of what was built from its operation."""
        return cast("CellOperation[OtherT]", replace(self, operation=operation))  # type: ignore[arg-type]
