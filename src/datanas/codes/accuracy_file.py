"""A table of accuracies in a file, as .npz or CSV."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from itertools import count
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datanas.codes.benchmark_text import Edges, complete_edges, read_operations
from datanas.core.errors import ArchitectureError, DataError, nearest
from datanas.core.paths import path_errors, read_bytes

ACCURACY = "test_acc/"
"""How the names of metrics begin that are accuracies."""


class ReadTable(NamedTuple):
    """What a file holds, as `AccuracyTable` takes it."""

    edges: Edges
    codes: NDArray[Any]
    metrics: Mapping[str, NDArray[Any]]
    first_row: int = 0


def read_table(file: Path, primitives: tuple[str, ...]) -> ReadTable:
    """Read a file as `AccuracyTable.load` says.

    Raises:
        DataError: the file is missing, is neither .npz nor CSV, or holds no such table.
    """
    with path_errors(file, DataError):
        is_archive = zipfile.is_zipfile(file)
    if is_archive:
        with path_errors(file, DataError):
            return _read_npz(file, primitives)
    text = read_bytes(file, DataError)
    if file.suffix.lower() == ".npz":
        raise DataError(f"{file}: not an .npz archive")
    return _read_csv(file, text, primitives)


def _check_names(names: Iterable[str], primitives: Sequence[str], where: str) -> None:
    for name in names:
        if name not in primitives:
            raise DataError(f"{where}: unknown operation {name!r}; {nearest(name, primitives)}")


def _read_npz(file: Path, primitives: tuple[str, ...]) -> ReadTable:
    arrays = _arrays(file)

    def take(name: str, kinds: str, dimensions: int) -> NDArray[Any]:
        if name not in arrays:
            raise DataError(f"{file}: array {name!r} is missing; there are {', '.join(sorted(arrays)) or 'none'}")
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != dimensions:
            what = "numbers" if "f" in kinds else "whole numbers" if "i" in kinds else "names"
            actual = f"{array.dtype} of shape {array.shape}"
            raise DataError(f"{file}: {name} must hold {what} in {dimensions} dimensions, got {actual}")
        return array

    ops, edges, accuracies = take("ops", "iu", 2), take("edges", "iu", 2), take("test_acc", "iuf", 2)
    names, datasets = (list(map(str, take(name, "U", 1))) for name in ("op_names", "datasets"))
    _check_names(names, primitives, f"{file}: op_names")
    if sorted(names) != sorted(primitives):
        raise DataError(f"{file}: op_names must be each of {', '.join(primitives)} once, got {', '.join(names)}")
    pairs = tuple((int(source), int(target)) for source, target in edges) if edges.shape[1] == 2 else ()
    nodes = max((target for _, target in pairs), default=0) + 1
    if not pairs or len(pairs) != nodes * (nodes - 1) // 2 or pairs != complete_edges(nodes):
        raise DataError(f"{file}: edges must be all (source, target) by target, then source, got {edges.tolist()}")
    if accuracies.shape != (len(ops), len(datasets)):
        wanted = len(ops), len(datasets)
        raise DataError(f"{file}: test_acc must have shape {wanted}, (rows, datasets), got {accuracies.shape}")
    if ops.shape[1] != len(pairs) or (ops >= len(names)).any() or (ops < 0).any():
        raise DataError(
            f"{file}: ops must have a column for each of {len(pairs)} edges and entries 0..{len(names) - 1}, "
            f"got {ops.shape[1]} columns and entries up to {ops.max(initial=0)}"
        )
    metrics = {f"{ACCURACY}{name}": column for name, column in zip(datasets, accuracies.T, strict=True)}
    for name, array in arrays.items():
        if array.dtype.kind in "iuf" and array.shape == (len(ops),):
            metrics[name] = array
    codes = np.array([primitives.index(name) for name in names])[ops]
    return ReadTable(pairs, codes, metrics)


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise DataError(f"{file}: not an .npz archive of plain arrays: {error}") from None
    return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}


def _read_csv(file: Path, content: bytes, primitives: tuple[str, ...]) -> ReadTable:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: neither an .npz archive nor CSV: {error.reason} at byte {error.start}") from None
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    codes: list[list[int]] = []
    rows: list[list[float]] = []
    numbers = {name: number for number, name in enumerate(primitives)}
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, file)
        for entries in reader:
            where = f"{file}: line {reader.line_num}"
            if len(entries) != len(header):
                raise DataError(f"{where}: must have {len(header)} entries, got {len(entries)}")
            operations = _operations(entries[0], where)
            _check_names(operations, primitives, where)
            codes.append([numbers[name] for name in operations])
            if len(codes[-1]) != len(codes[0]):
                raise DataError(f"{where}: this cell has {len(codes[-1])} edges, the first {len(codes[0])}")
            rows.append([_number(entry, name, where) for name, entry in zip(header[1:], entries[1:], strict=True)])
    except csv.Error as error:
        raise DataError(f"{file}: line {reader.line_num}: not CSV: {error}") from None
    if not rows:
        raise DataError(f"{file}: holds a header and no cells")
    columns = dict(zip(header[1:], np.array(rows, np.float64).T, strict=True))
    nodes = next(nodes for nodes in count(2) if len(complete_edges(nodes)) == len(codes[0]))
    return ReadTable(complete_edges(nodes), np.array(codes), columns, first_row=2)


def _check_header(header: Sequence[str], file: Path) -> None:
    if len(header) < 2 or header[0] != "architecture":
        beginning = ", ".join(header[:5])
        raise DataError(f"{file}: must begin with the line `architecture,<metric>,...`, got {shortened(beginning)}")
    for name in header:
        if not name or header.count(name) > 1:
            raise DataError(f"{file}: line 1: each column needs a name of its own, got {name!r}")


def _operations(text: str, where: str) -> list[str]:
    try:
        return read_operations(text)
    except ArchitectureError as error:
        raise DataError(f"{where}: {error}") from None


def _number(text: str, column: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: {column} must be a number, got {shortened(text)}") from None
