"""Latency from a file that a user brings: milliseconds by group, edge and operation."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datanas.budgets.base import CostModel, CostTable, NetworkSize
from datanas.budgets.units import TIMES
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import DataError, nearest
from datanas.core.paths import read_text

CONSTANT = "constant"
_COLUMNS = ("group", "edge", "op")
_TIME_COLUMNS = {"milliseconds": 1.0, "ms": 1.0, "microseconds": 1e-3, "us": 1e-3, "seconds": 1e3, "s": 1e3}


@dataclass(frozen=True)
class Row:
    """What an operation takes on an edge of a group: of any group or edge where none is named."""

    group: str | None
    edge: int | None
    op: str
    milliseconds: float


class LatencyRows(CostModel):
    """Milliseconds that each operation adds to the whole network, as a file has them.

    A row of a group and an edge holds before one of the group alone, that before one of the operation alone. `none`
    needs no row. A row of the operation `constant` is what every network takes.
    """

    name: ClassVar[str] = "latency"
    unit: ClassVar[str] = "ms"

    def __init__(self, rows: list[Row], file: str, device: str | None = None) -> None:
        self._rows = {(row.group, row.edge, row.op): row.milliseconds for row in rows}
        self._file, self.device = file, device

    @classmethod
    def load(cls, path: Path) -> LatencyRows:
        """Read a table.

        Args:
            path: a CSV file with a header, of `op`, `milliseconds` (or `microseconds`, `seconds`) and, if wanted,
                `group` and `edge`; or JSON: a list of objects with these names, or {"device": TEXT, "unit": "ms",
                "rows": [...]} whose rows may have `latency` in that unit.

        Raises:
            DataError: it is missing or no such table; the message names the row.
        """
        text = read_text(path, DataError)
        device = None
        if path.suffix.lower() == ".json" or text.lstrip().startswith(("{", "[")):
            raw, device = _from_json(text, path)
        else:
            raw = list(csv.DictReader(StringIO(text)))
        rows = [_row(each, f"{path}, row {number}") for number, each in enumerate(raw, start=1)]
        if not rows:
            raise DataError(f"{path}: holds no rows")
        seen: set[tuple[str | None, int | None, str]] = set()
        for number, row in enumerate(rows, start=1):
            key = row.group, row.edge, row.op
            if key in seen:
                raise DataError(f"{path}, row {number}: {row.op} is there already for this group and edge")
            seen.add(key)
        return cls(rows, str(path), device)

    def additive(self, size: NetworkSize) -> CostTable:
        """As `CostModel.additive`.

        Raises:
            DataError: the table lacks an operation, or has a group or an edge that the space has not.
        """
        self._require_known(size.groups)
        tables = {
            name: np.array(
                [
                    [
                        0.0 if op == group.null else self._of(name, edge, primitive)
                        for op, primitive in enumerate(group.primitives)
                    ]
                    for edge in range(len(group.edges))
                ]
            )
            for name, group in size.groups.items()
        }
        return CostTable(self._rows.get((None, None, CONSTANT), 0.0), tables)

    def _of(self, group: str, edge: int, op: str) -> float:
        for key in ((group, edge, op), (group, None, op), (None, edge, op), (None, None, op)):
            if key in self._rows:
                return self._rows[key]
        raise DataError(f"{self._file}: has no row for {op} on edge {edge} of {group}, nor one of {op} for all edges")

    def _require_known(self, groups: Mapping[str, ChoiceGroup]) -> None:
        edges = max(len(group.edges) for group in groups.values())
        for group, edge, _ in self._rows:
            if group is not None and group not in groups:
                raise DataError(f"{self._file}: group {group!r} is none of this space; {nearest(group, groups)}")
            limit = edges if group is None else len(groups[group].edges)
            if edge is not None and edge >= limit:
                raise DataError(f"{self._file}: edge {edge} does not exist; there are 0..{limit - 1}")


def _from_json(text: str, path: Path) -> tuple[list[Mapping[str, Any]], str | None]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    device, unit = None, "ms"
    if isinstance(document, dict):
        device, unit = document.get("device"), document.get("unit", "ms")
        if unit not in TIMES:
            raise DataError(f"{path}: unit {unit!r} is no time; known: {', '.join(TIMES)}")
        document = document.get("rows")
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise DataError(f"{path}: must be a list of objects with op and milliseconds, or have one named rows")
    scaled = [
        {**each, "milliseconds": _scaled(each["latency"], TIMES[unit])} if "latency" in each else each
        for each in document
    ]
    return [{k: v for k, v in each.items() if k != "latency"} for each in scaled], device


def _scaled(value: Any, factor: float) -> Any:
    return value * factor if isinstance(value, int | float) and not isinstance(value, bool) else value


def _row(raw: Mapping[str, Any], where: str) -> Row:
    times = [name for name in _TIME_COLUMNS if name in raw]
    known = {*_COLUMNS, *_TIME_COLUMNS}
    for name in raw:
        if name not in known:
            raise DataError(f"{where}: unknown column {name!r}; {nearest(str(name), known)}")
    if len(times) != 1 or not raw.get("op"):
        raise DataError(f"{where}: needs op and one of {', '.join(_TIME_COLUMNS)}")
    try:
        value = float(raw[times[0]]) * _TIME_COLUMNS[times[0]]
    except (TypeError, ValueError):
        raise DataError(f"{where}: {times[0]} must be a number, got {raw[times[0]]!r}") from None
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{where}: {times[0]} must be finite and not negative, got {raw[times[0]]!r}")
    edge = raw.get("edge")
    if edge in (None, ""):
        return Row(raw.get("group") or None, None, str(raw["op"]), value)
    text = str(edge).strip()
    if isinstance(edge, bool) or not (text.isascii() and text.isdigit()):
        raise DataError(f"{where}: edge must be a whole number from 0, got {edge!r}")
    return Row(raw.get("group") or None, int(text), str(raw["op"]), value)


def rows_text(tables: Mapping[str, np.ndarray], groups: Mapping[str, ChoiceGroup], constant: float) -> str:
    """A table as CSV, which `load` reads back."""

    def lines() -> Iterator[str]:
        yield "group,edge,op,milliseconds"
        yield f",,{CONSTANT},{constant!r}"
        for name, group in groups.items():
            for edge in range(len(group.edges)):
                for op, primitive in enumerate(group.primitives):
                    yield f"{name},{edge},{primitive},{float(tables[name][edge, op])!r}"

    return "\n".join(lines()) + "\n"
