"""Files of latency tables: JSON as `datanas calibrate` writes it, and JSON or CSV of a user's own.

JSON is an object with `unit` ("s", "ms" or "us") and `operations`, a list of objects with `primitive`, `channels` and
`latency`, and where they are not the usual ones `stride` (1), `size` (height and width; [] for vectors), `maps` (1) and
`out_channels` (0: as many as are read).
A calibrated table also has `machine`, `network`, `fit` and `held_out`. CSV has the columns `primitive`, `channels` and
one of `latency_s`, `latency_ms`, `latency_us`, and where needed `stride`, `height`, `width`, `maps` and `out_channels`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from datanas.core.errors import DataError, nearest
from datanas.core.paths import read_text
from datanas.spaces.workload import Workload

UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
"""In milliseconds."""
_FIT = ("constant_ms", "per_cell_ms", "overlap")
_HELD_OUT = ("measured_ms", "predicted_ms", "repeat_error")
_SHAPE = ("stride", "size", "maps", "out_channels")


@dataclass(frozen=True)
class TableFile:
    """What a file says, in milliseconds; the attributes are those of `LatencyTable`."""

    times: dict[Workload, float]
    machine: dict[str, Any] | None = None
    network: dict[str, Any] | None = None
    fit: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, Any] | None = None


def table_json(
    times: Mapping[Workload, float],
    *,
    machine: Mapping[str, Any] | None,
    network: Mapping[str, Any] | None,
    fit: Mapping[str, float],
    held_out: Mapping[str, Any] | None,
) -> str:
    """The text of a file, one operation a line."""
    rows = [json.dumps({**_row(each), "latency": time}) for each, time in sorted(times.items())]
    parts = {
        "unit": '"ms"',
        "machine": json.dumps(None if machine is None else dict(machine)),
        "network": json.dumps(None if network is None else dict(network)),
        "fit": json.dumps(dict(fit)),
        "held_out": json.dumps(None if held_out is None else dict(held_out)),
        "operations": "[\n  " + ",\n  ".join(rows) + "\n ]",
    }
    return "{\n " + ",\n ".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}\n"


def _row(workload: Workload) -> dict[str, Any]:
    return {name: value for name, value in vars(workload).items() if name != "out_channels" or value}


def read_latency_table(path: Path) -> TableFile:
    """What a file holds.

    Raises:
        DataError: it is missing, is no table, or a value in it is none.
    """
    text = read_text(path, DataError)
    if path.suffix.lower() == ".csv":
        return TableFile(_read_csv(text, str(path)))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: neither JSON nor named .csv: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("operations"), list):
        raise DataError(f"{path}: no latency table: an object with a list 'operations' is needed")
    unit = document.get("unit")
    if unit not in UNITS:
        raise DataError(f"{path}: unit: must be one of {', '.join(UNITS)}, got {shortened(unit)}")
    times: dict[Workload, float] = {}
    for index, row in enumerate(document["operations"]):
        where = f"{path}: operations[{index}]"
        if not isinstance(row, dict):
            raise DataError(f"{where}: must be an object, got {shortened(row)}")
        known = ("primitive", "channels", "latency", *_SHAPE)
        for name in row:
            if name not in known:
                raise DataError(f"{where}: {name}: unknown; {nearest(name, known)}")
        _enter(times, row, row.get("latency"), unit, where)
    fit = _numbers(document.get("fit"), _FIT, f"{path}: fit")
    held_out = document.get("held_out")
    return TableFile(
        _some(times, path),
        _object(document.get("machine"), f"{path}: machine"),
        _object(document.get("network"), f"{path}: network"),
        fit,
        None if held_out is None else _held_out(held_out, f"{path}: held_out"),
    )


def _read_csv(text: str, path: str) -> dict[Workload, float]:
    rows = csv.DictReader(StringIO(text))
    names = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = names
    units = [unit for unit in UNITS if f"latency_{unit}" in names]
    shape = ("stride", "height", "width", "maps", "out_channels")
    known = ("primitive", "channels", *shape, *(f"latency_{unit}" for unit in UNITS))
    for name in names:
        if name not in known:
            raise DataError(f"{path}: column {name!r}: unknown; {nearest(name, known)}")
    if len(units) != 1 or not {"primitive", "channels"} <= set(names):
        raise DataError(
            f"{path}: must have the columns primitive, channels and one of latency_s, latency_ms, latency_us"
        )
    times: dict[Workload, float] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{path}: line {number}"
        if None in row:
            raise DataError(f"{where}: has more values than the {len(names)} columns")
        values: dict[str, Any] = {"primitive": (row["primitive"] or "").strip()}
        sides = [row.get(name) for name in ("height", "width")]
        for name in ("channels", "stride", "maps", "out_channels"):
            if row.get(name) not in (None, "") or name == "channels":
                values[name] = _whole(row.get(name), f"{where}: {name}")
        if any(side not in (None, "") for side in sides):
            values["size"] = [_whole(side, f"{where}: height and width") for side in sides]
        try:
            time = float(row[f"latency_{units[0]}"] or "")
        except ValueError:
            time = None
        _enter(times, values, row[f"latency_{units[0]}"] if time is None else time, units[0], where)
    return _some(times, path)


def _enter(times: dict[Workload, float], row: Mapping[str, Any], time: object, unit: str, where: str) -> None:
    """Add a row, checked."""
    primitive, size = row.get("primitive"), row.get("size", [])
    if not isinstance(primitive, str) or not primitive:
        raise DataError(f"{where}: primitive: must be the name of an operation, got {shortened(primitive)}")
    counts = {name: row.get(name, 1) for name in ("stride", "maps")} | {"channels": row.get("channels")}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise DataError(f"{where}: {name}: must be a whole number of at least 1, got {shortened(count)}")
    into = row.get("out_channels", 0)
    if isinstance(into, bool) or not isinstance(into, int) or into < 0:
        raise DataError(f"{where}: out_channels: must be a whole number of at least 0, got {shortened(into)}")
    is_size = isinstance(size, list) and len(size) in (0, 2)
    if not is_size or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in size):
        raise DataError(f"{where}: size: must be [height, width] or [], got {shortened(size)}")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < float("inf"):
        raise DataError(f"{where}: {primitive}: a latency must be a finite number of at least 0, got {shortened(time)}")
    workload = Workload(primitive, counts["channels"], counts["stride"], tuple(size), counts["maps"], into)
    if workload in times:
        raise DataError(f"{where}: {workload} is there already")
    times[workload] = float(time) * UNITS[unit]


def _some(times: dict[Workload, float], path: object) -> dict[Workload, float]:
    if not times:
        raise DataError(f"{path}: holds no operations")
    return times


def _whole(text: str | None, where: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise DataError(f"{where}: must be a whole number of at least 1, got {shortened(text)}") from None


def _object(value: object, where: str) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise DataError(f"{where}: must be an object with named fields, got {shortened(value)}")
    return value


def _numbers(value: object, names: tuple[str, ...], where: str) -> dict[str, float]:
    entries = _object(value, where) or {}
    for name, number in entries.items():
        if name not in names:
            raise DataError(f"{where}.{name}: unknown; {nearest(name, names)}")
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise DataError(f"{where}.{name}: must be a number, got {shortened(number)}")
    return {name: float(number) for name, number in entries.items()}


def _held_out(value: object, where: str) -> dict[str, Any]:
    entries = _object(value, where) or {}
    lists = [entries.get(name) for name in _HELD_OUT[:2]]
    numbers = [number for each in lists if isinstance(each, list) for number in each] + [entries.get(_HELD_OUT[2])]
    is_right = all(isinstance(each, list) for each in lists) and len({len(each or ()) for each in lists}) == 1
    if not is_right or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise DataError(f"{where}: must have {', '.join(_HELD_OUT)}: two lists of as many numbers, and a number")
    return {
        name: tuple(entries[name]) if isinstance(entries[name], list) else float(entries[name]) for name in _HELD_OUT
    }
