"""The JSON document of an architecture: its schema, read with care and printed for people."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from reprlib import repr as shortened
from typing import Any

import numpy as np

from datanas.codes.cell import Cell
from datanas.core.checks import check_keys, check_nodes, read_edge, read_integer, read_list, read_name, read_object
from datanas.core.errors import ArchitectureError

SCHEMA = "datanas.architecture"
VERSION = 1
_DEEPEST = 100
"""Objects and lists of notes inside each other. What Python's own limit allows differs from version to version."""


def plain_document(cells: Mapping[str, Cell], **choice: str) -> dict[str, Any]:
    """The document without notes; `choice` holds the architecture's further fields."""
    plain = {
        name: {
            "primitives": list(cell.primitives),
            "nodes": cell.nodes,
            "inputs": cell.inputs,
            "edges": [list(edge) for edge in cell.edges],
            "outputs": list(cell.outputs),
            "code": ["".join(map(str, row)) for row in cell.code.tolist()],
        }
        for name, cell in cells.items()
    }
    return {"schema": SCHEMA, "version": VERSION, **choice, "cells": plain}


def plain_notes(value: Any, where: str, depth: int = 0) -> Any:
    """`value` as JSON gives it back: lists for tuples, Python's numbers for numpy's, None for what is not finite.

    Raises:
        ArchitectureError: it is no JSON, or nested too deeply.
    """
    if depth > _DEEPEST:
        raise ArchitectureError(f"{where.partition('.')[0]}: nested too deeply")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {read_name(key, where): plain_notes(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_notes(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    raise ArchitectureError(f"{where}: must be JSON, got {shortened(value)}")


def print_document(document: Mapping[str, Any]) -> str:
    """JSON, indented by 2, with short lists on one line."""
    return _pretty(document) + "\n"


def read_document(text: str | Mapping[str, Any]) -> tuple[dict[str, Cell], dict[str, Any]]:
    """The cells of a document, as text or already parsed, and its further fields as they stand.

    Raises:
        ArchitectureError: it is no document of this schema; the message holds the place.
        RecursionError: it is nested too deeply.
    """
    document = read_object(_parsed(text) if isinstance(text, str) else text, "the document")
    if document.get("schema") != SCHEMA:
        raise ArchitectureError(f"schema: must be {SCHEMA!r}, got {shortened(document.get('schema'))}")
    version = read_integer(document.get("version"), "version", low=1)
    if version > VERSION:
        raise ArchitectureError(
            f"version: written by a newer datanas: schema version {version}, this one reads up to {VERSION}"
        )
    check_keys(document, ("schema", "version", "space", "scope", "aggregate", "cells"), ("posterior", "source"))
    cells = {name: _read_cell(cell, name) for name, cell in read_object(document["cells"], "cells").items()}
    return cells, {key: value for key, value in document.items() if key not in ("schema", "version", "cells")}


def _pretty(value: Any, indent: int = 0, width: int = 120) -> str:
    line = json.dumps(value)
    if not isinstance(value, (dict, list)) or not value or (isinstance(value, list) and indent + len(line) <= width):
        return line
    start = "\n" + " " * (indent + 2)
    if isinstance(value, list):
        items, brackets = [_pretty(item, indent + 2) for item in value], "[]"
    else:
        items, brackets = [f"{json.dumps(key)}: {_pretty(item, indent + 2)}" for key, item in value.items()], "{}"
    return f"{brackets[0]}{start}{f',{start}'.join(items)}\n{' ' * indent}{brackets[1]}"


def _parsed(text: str) -> Any:
    def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise ValueError(f"a key occurs twice in the object of {shortened([key for key, _ in pairs])}")
        return fields

    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        return json.loads(text, object_pairs_hook=unrepeated, parse_constant=refused)
    except ValueError as error:
        raise ArchitectureError(f"not JSON: {error}") from None


def _read_cell(document: Any, group: str) -> Cell:
    at = f"cells.{group}"
    fields = read_object(document, at)
    check_keys(fields, ("primitives", "nodes", "inputs", "edges", "outputs", "code"), at=f"{at}.")
    try:
        nodes = read_integer(fields["nodes"], "nodes", low=1)
        names = read_list(read_name, fields["primitives"], "primitives")
        edges = read_list(read_edge, fields["edges"], "edges")
        check_nodes((target for _, target in edges), nodes, "edges")
        rows = fields["code"]
        if not isinstance(rows, (list, tuple)) or len(rows) != len(edges):
            raise ArchitectureError(f"code: must be a list of {len(edges)} rows, one an edge, got {shortened(rows)}")
        for i, row in enumerate(rows):
            if not isinstance(row, str) or not re.fullmatch("[0-9]*", row) or len(row) != len(names):
                raise ArchitectureError(
                    f"code[{i}]: must be text of {len(names)} digits, one a primitive, got {shortened(row)}"
                )
        code = np.array([[int(digit) for digit in row] for row in rows], np.uint8)
        cell = Cell(tuple(names), tuple(edges), fields["outputs"], code, fields["inputs"])
        if cell.nodes != nodes:
            raise ArchitectureError(f"nodes: must be {cell.nodes}, the inputs and the targets of edges, got {nodes}")
    except ArchitectureError as error:
        raise ArchitectureError(f"{at}.{error}") from None
    return cell
