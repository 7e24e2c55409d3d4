"""Latency from a table that `datanas calibrate` has made: operations at their shapes, and how they add up."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from datanas.budgets.base import CostModel, CostTable, NetworkSize
from datanas.budgets.latency import LatencyTable
from datanas.core.paths import json_object


class CalibratedLatency(CostModel):
    """Milliseconds of a forward pass by a table of this or of another machine.

    Attributes:
        table: of the shapes that networks of the size in question run.
        device: the processor or GPU that it is of; None where it does not say.
    """

    name: ClassVar[str] = "latency"
    unit: ClassVar[str] = "ms"

    def __init__(self, table: LatencyTable) -> None:
        self.table = table
        device = (table.machine or {}).get("device")
        self.device = None if device is None else str(device)

    @classmethod
    def load(cls, path: Path) -> CalibratedLatency:
        """Read what `LatencyTable.save` wrote.

        Raises:
            DataError: it is no such table.
        """
        return cls(LatencyTable.load(path))

    def additive(self, size: NetworkSize) -> CostTable:
        """As `CostModel.additive`.

        Raises:
            DataError: the table lacks an operation or a shape.
        """
        return self.table.additive(size.space, size.stem, size.example)


def is_calibrated(path: Path) -> bool:
    """Whether a file is a table of `datanas calibrate`, not one of rows by edge and operation."""
    if path.suffix.lower() == ".csv":
        with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8-sig") as file:
            return "primitive" in [name.strip() for name in file.readline().split(",")]
        return False
    return "operations" in json_object(path)
