"""Architecture: what a search keeps and everything downstream starts from. Plain data, no torch.

A cell is a directed acyclic graph; its code says for each edge and candidate operation whether it is used, and an edge
may use several at once (DATA, Sec. 3.1, Eq. 2-3). Written as JSON, or as the genotype text of DARTS (Liu et al., 2019).
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from hashlib import blake2b
from itertools import count
from pathlib import Path
from reprlib import repr as shortened
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from datanas.errors import ArchitectureError, StorageError, nearest

T = TypeVar("T")

SCHEMA = "datanas.architecture"
VERSION = 1
MAX_COUNT = 9  # a count is one digit in the file

CONV_PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
RECURRENT_PRIMITIVES = ("none", "tanh", "relu", "sigmoid", "identity")


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
        names = _list_of(_name, self.primitives, "primitives")
        inputs = _integer(self.inputs, "inputs", low=1)
        edges = _list_of(_edge, self.edges, "edges")
        targets = {target for _, target in edges}
        nodes = inputs + len(targets)
        for i, (_, target) in enumerate(edges):
            if target < inputs:
                raise ArchitectureError(f"edges[{i}]: target {target} is an input node; these are 0..{inputs - 1}")
        if not edges or max(targets) >= nodes:
            missing = next(node for node in count(inputs) if node not in targets)
            raise ArchitectureError(f"edges: node {missing} needs an edge into it")
        outputs = _list_of(_integer, self.outputs, "outputs")
        _check_nodes(outputs, nodes, "outputs")
        code = np.array(self.code)
        if code.shape != (len(edges), len(names)):
            raise ArchitectureError(f"code: must have shape {(len(edges), len(names))}, got {code.shape}")
        if code.dtype.kind not in "biuf" or not np.isin(code, np.arange(MAX_COUNT + 1)).all():
            raise ArchitectureError(f"code: entries must be whole numbers from 0 to {MAX_COUNT}")
        if "none" in names:
            code[:, names.index("none")] = 0
        # An array over bytes cannot be made writeable again.
        code = np.frombuffer(code.astype(np.uint8).tobytes(), np.uint8).reshape(code.shape)
        _set(self, primitives=tuple(names), edges=tuple(edges), outputs=tuple(outputs), code=code, inputs=inputs)

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


@dataclass(frozen=True, eq=False, repr=False)
class Architecture:
    """The chosen operations of every choice group of a space.

    Two architectures are equal, hash and print the same where everything but `posterior` and `source` agrees.

    Attributes:
        cells: the cell of each choice group, in the natural order of the names ("block2" before "block10").
        space: name of the search space.
        scope: what one probability vector covers: the operations of an "edge", or of all edges into a "node".
        aggregate: how a node combines its chosen operations: by "sum", or as "mean", the sum divided by their number
            in the scope.
        posterior: numbers about the choice, {"log_prob": float, "margin": float, "samples": int, ...}.
        source: free notes on the origin. Like `posterior` it must be JSON; what is not finite becomes None.

    Raises:
        ArchitectureError: a field is none of these; the message begins with its name.
    """

    cells: Mapping[str, Cell]
    _: KW_ONLY
    space: str = "conv_cell"
    scope: str = "edge"
    aggregate: str = "sum"
    posterior: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.cells:
            raise ArchitectureError("cells: must hold at least one cell")
        for place, value in (("space", self.space), *(("cells", name) for name in self.cells)):
            _name(value, place)
        for place, value, allowed in (
            ("scope", self.scope, ("edge", "node")),
            ("aggregate", self.aggregate, ("sum", "mean")),
        ):
            if value not in allowed:
                raise ArchitectureError(f"{place}: must be {' or '.join(allowed)}, got {shortened(value)}")
        notes = {
            place: None if value is None else _plain_notes(_object(value, place), place)
            for place, value in (("posterior", self.posterior), ("source", self.source))
        }
        for key in ("log_prob", "margin", "samples"):
            number = (notes["posterior"] or {}).get(key)
            if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
                raise ArchitectureError(f"posterior.{key}: must be a number, got {shortened(number)}")
        cells = {name: self.cells[name] for name in sorted(self.cells, key=_natural)}
        _set(self, cells=MappingProxyType(cells), **notes)

    @property
    def code(self) -> dict[str, NDArray[np.uint8]]:
        """The code of each choice group, (edges, ops), read-only."""
        return {name: cell.code for name, cell in self.cells.items()}

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that stand for all that counts for equality."""
        return blake2b(json.dumps(self._plain()).encode(), digest_size=6).hexdigest()

    def weights(self, group: str) -> NDArray[np.float64]:
        """The factor of each operation in the sum that is its node's value, float64, (edges, ops).

        The code itself for "sum". For "mean" the code divided by its total over the edge, or over all edges into the
        node, as `scope` says; 0 where nothing is chosen.
        """
        cell = self.cells[group]
        code = cell.code.astype(np.float64)
        if self.aggregate == "sum":
            return code
        totals = code.sum(axis=1)
        if self.scope == "node":
            targets = np.array([target for _, target in cell.edges])
            totals = np.bincount(targets, weights=totals)[targets]
        return np.asarray(code / np.maximum(totals, 1)[:, None], np.float64)

    def _key(self) -> tuple[Any, ...]:
        return self.space, self.scope, self.aggregate, tuple(self.cells.items())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Architecture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        cells = ", ".join(f"{name}: {cell.code.sum()}" for name, cell in self.cells.items())
        if len(self.cells) > 3:
            cells = f"{len(self.cells)} cells: {sum(cell.code.sum() for cell in self.cells.values())}"
        return f"Architecture({self.space}, {self.scope}, {self.aggregate}, {cells} operations, {self.digest})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Architecture.from_json, (self.to_json(),)

    def _plain(self) -> dict[str, Any]:
        cells = {
            name: {
                "primitives": list(cell.primitives),
                "nodes": cell.nodes,
                "inputs": cell.inputs,
                "edges": [list(edge) for edge in cell.edges],
                "outputs": list(cell.outputs),
                "code": ["".join(map(str, row)) for row in cell.code.tolist()],
            }
            for name, cell in self.cells.items()
        }
        choice = {"space": self.space, "scope": self.scope, "aggregate": self.aggregate, "cells": cells}
        return {"schema": SCHEMA, "version": VERSION, **choice}

    def to_json(self) -> str:
        """The architecture as JSON, indented by 2, with short lists on one line; `from_json` reads it back."""
        notes = {"posterior": self.posterior, "source": self.source}
        return _pretty(self._plain() | {key: value for key, value in notes.items() if value is not None}) + "\n"

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> Architecture:
        """Read what `to_json` wrote, as text or already parsed.

        Raises:
            ArchitectureError: it is anything else; the message holds the place in the document, what is there and
                what would be right.
        """
        try:
            document = _object(_parsed(text) if isinstance(text, str) else text, "the document")
            if document.get("schema") != SCHEMA:
                raise ArchitectureError(f"schema: must be {SCHEMA!r}, got {shortened(document.get('schema'))}")
            version = _integer(document.get("version"), "version", low=1)
            if version > VERSION:
                raise ArchitectureError(
                    f"version: written by a newer datanas: schema version {version}, this one reads up to {VERSION}"
                )
            fields = ("space", "scope", "aggregate", "cells")
            _check_keys(document, ("schema", "version", *fields), ("posterior", "source"))
            cells = {name: _cell_from_json(cell, name) for name, cell in _object(document["cells"], "cells").items()}
            rest = {key: document[key] for key in document if key not in ("schema", "version", "cells")}
            return cls(cells, **rest)
        except RecursionError:
            raise ArchitectureError("the document is nested too deeply") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to `path`; a reader sees the old file or the new one, never half of it.

        Raises:
            StorageError: the file cannot be written.
        """
        part = Path(f"{os.fspath(path)}.part")
        try:
            part.write_text(self.to_json(), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Architecture:
        """Read a file that `save` wrote.

        Raises:
            ArchitectureError: the file cannot be read or holds no architecture; the message names the file.
        """
        try:
            return cls.from_json(Path(path).read_bytes().decode("utf-8-sig"))
        except OSError as error:
            raise ArchitectureError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ArchitectureError(f"{path}: not text: {error.reason} at byte {error.start}") from None
        except ArchitectureError as error:
            raise ArchitectureError(f"{path}: {error}") from None

    @classmethod
    def from_genotype(
        cls, text: str, *, primitives: Sequence[str] | None = None, scope: str = "edge", aggregate: str = "sum"
    ) -> Architecture:
        """Read DARTS' text form.

        `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=[...])`, or
        `Genotype(recurrent=[('relu', 0), ...], concat=range(1, 9))`. The entries (operation, input) stand in one list,
        two a node (recurrent: one), or in a list per node, any number of them. Names may lack their quotes. The edges
        are those of the complete graph, node by node. An entry `none` stands for nothing.

        Args:
            text: the genotype, also as `NAME = Genotype(...)`; nothing in it is executed.
            primitives: the candidate operations. Default: DARTS' own, and behind them in sorted order the further
                names of the text.
            scope: as in the class; the text does not say.
            aggregate: likewise.

        Raises:
            ArchitectureError: the text is something else; the message names the place.
        """
        fields = _genotype_fields(text)
        form = next((form for form in _FORMS if not form.groups.keys().isdisjoint(fields)), _FORMS[0])
        _check_keys(fields, [field for pair in form.groups.items() for field in pair])
        nodes = {group: _genotype_nodes(fields[group], group, form.entries) for group in form.groups}
        if primitives is None:
            found = {entry.name for group in nodes.values() for node in group for entry in node}
            primitives = (*form.primitives, *sorted(found.difference(form.primitives)))
        cells = {}
        for group, concat in form.groups.items():
            outputs = _genotype_concat(fields[concat], concat, form.inputs + len(nodes[group]))
            cells[group] = _genotype_cell(nodes[group], tuple(primitives), outputs, form.inputs)
        return cls(cells, space=form.space, scope=scope, aggregate=aggregate)

    def to_genotype(self) -> str:
        """DARTS' text form: one flat list where every node has two operations (recurrent: one), else a list per node.

        `from_genotype` makes an equal architecture of it where the primitives, `scope` and `aggregate` are its
        defaults and the edges are those of the complete graph; the text holds none of these.

        Raises:
            ArchitectureError: the cells are not a normal and a reduction cell, or one recurrent cell.
        """
        form = next((form for form in _FORMS if form.groups.keys() == self.cells.keys()), None)
        if form is None or any(cell.inputs != form.inputs for cell in self.cells.values()):
            raise ArchitectureError(
                "DARTS' text form knows a normal and a reduction cell of two inputs, or a recurrent cell of one; "
                f"this architecture has the cells {', '.join(self.cells)}"
            )
        parts = []
        for group, concat in form.groups.items():
            cell = self.cells[group]
            nodes = [cell.node_inputs(target) for target in range(cell.inputs, cell.nodes)]
            is_flat = all(len(node) == form.entries for node in nodes)
            entries = [entry for node in nodes for entry in node] if is_flat else nodes
            outputs = list(cell.outputs)
            run = range(outputs[0], outputs[-1] + 1)
            parts += [f"{group}={entries!r}", f"{concat}={run if outputs == list(run) else outputs!r}"]
        return f"Genotype({', '.join(parts)})"


def _set(frozen: object, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(frozen, name, value)


def _integer(value: Any, place: str, low: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ArchitectureError(f"{place}: must be a whole number of at least {low}, got {shortened(value)}")
    return int(value)


def _name(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise ArchitectureError(f"{place}: must be a name, got {shortened(value)}")
    return value


def _edge(value: Any, place: str) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ArchitectureError(f"{place}: must be [source, target], got {shortened(value)}")
    source, target = (_integer(node, place) for node in value)
    if source >= target:
        raise ArchitectureError(f"{place}: source {source} must be lower than target {target}")
    return source, target


def _list_of(read: Callable[[Any, str], T], values: Any, place: str) -> list[T]:
    """Each of `values`, at least one and all different, as `read` makes it."""
    if not isinstance(values, (list, tuple)) or not values:
        raise ArchitectureError(f"{place}: must be a list of at least one entry, got {shortened(values)}")
    seen: dict[T, int] = {}
    for i, value in enumerate(values):
        item = read(value, f"{place}[{i}]")
        if seen.setdefault(item, i) != i:
            raise ArchitectureError(f"{place}[{i}]: {item!r} is there already, as {place}[{seen[item]}]")
    return list(seen)


def _check_nodes(nodes: Iterable[int], number: int, place: str) -> None:
    for i, node in enumerate(nodes):
        if node >= number:
            raise ArchitectureError(f"{place}[{i}]: node {node} does not exist; the nodes are 0..{number - 1}")


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArchitectureError(f"{place}: must be an object with named fields, got {shortened(value)}")
    return value


def _check_keys(given: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] = (), at: str = "") -> None:
    for key in given:
        if key not in required and key not in optional:
            raise ArchitectureError(f"{at}{key}: unknown; {nearest(str(key), [*required, *optional])}")
    for key in required:
        if key not in given:
            raise ArchitectureError(f"{at}{key}: missing")


def _natural(name: str) -> tuple[list[str | int], str]:
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name))], name


def _plain_notes(value: Any, place: str) -> Any:
    """`value` as JSON gives it back: lists for tuples, Python's numbers for numpy's, None for what is not finite."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {_name(key, place): _plain_notes(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_notes(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    raise ArchitectureError(f"{place}: must be JSON, got {shortened(value)}")


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


def _cell_from_json(document: Any, group: str) -> Cell:
    at = f"cells.{group}"
    fields = _object(document, at)
    _check_keys(fields, ("primitives", "nodes", "inputs", "edges", "outputs", "code"), at=f"{at}.")
    try:
        nodes = _integer(fields["nodes"], "nodes", low=1)
        names = _list_of(_name, fields["primitives"], "primitives")
        edges = _list_of(_edge, fields["edges"], "edges")
        _check_nodes((target for _, target in edges), nodes, "edges")
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


class _Form(NamedTuple):
    """A shape of DARTS' namedtuple.

    `groups` maps the field of each cell to the field of its outputs; `entries` is how many a node has in a flat list.
    """

    space: str
    inputs: int
    entries: int
    primitives: tuple[str, ...]
    groups: dict[str, str]


_FORMS = (
    _Form("conv_cell", 2, 2, CONV_PRIMITIVES, {"normal": "normal_concat", "reduce": "reduce_concat"}),
    _Form("recurrent_cell", 1, 1, RECURRENT_PRIMITIVES, {"recurrent": "concat"}),
)


class _Entry(NamedTuple):
    name: str
    source: int
    place: str


def _genotype_fields(text: str) -> dict[str, ast.expr]:
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArchitectureError(f"genotype: not in Python's syntax: {error}") from None
    match statements:
        case [ast.Expr(call) | ast.Assign(value=call)]:
            match call:
                case ast.Call(func=ast.Name("Genotype"), args=[], keywords=keywords):
                    names = _list_of(_name, [keyword.arg for keyword in keywords], "genotype")
                    return {name: keyword.value for name, keyword in zip(names, keywords, strict=True)}
    raise ArchitectureError(
        "genotype: must read Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...) "
        "or Genotype(recurrent=[...], concat=...)"
    )


def _genotype_nodes(value: ast.expr, group: str, entries: int) -> list[list[_Entry]]:
    match value:
        case ast.List(items) | ast.Tuple(items) if items:
            pass
        case _:
            raise ArchitectureError(f"{group}: must be a list of (operation, input), got {_text(value)}")
    match items[0]:
        case ast.List([ast.Name() | ast.Constant(), *_]) | ast.Tuple([ast.Name() | ast.Constant(), *_]):
            flat = [_genotype_entry(item, f"{group}[{i}]") for i, item in enumerate(items)]
            if len(flat) % entries:
                raise ArchitectureError(f"{group}: a flat list needs {entries} entries a node, got {len(flat)} in all")
            return [flat[i : i + entries] for i in range(0, len(flat), entries)]
    nodes = []
    for i, item in enumerate(items):
        match item:
            case ast.List(node) | ast.Tuple(node):
                nodes.append([_genotype_entry(entry, f"{group}[{i}][{j}]") for j, entry in enumerate(node)])
            case _:
                raise ArchitectureError(f"{group}[{i}]: must be a list of (operation, input), got {_text(item)}")
    return nodes


def _genotype_entry(value: ast.expr, place: str) -> _Entry:
    match value:
        case ast.List([name, ast.Constant(int(source))]) | ast.Tuple([name, ast.Constant(int(source))]):
            match name:
                case ast.Name(str(operation)) | ast.Constant(str(operation)) if not isinstance(source, bool):
                    return _Entry(operation, source, place)
    raise ArchitectureError(f"{place}: must be (operation, input), got {_text(value)}")


def _genotype_concat(value: ast.expr, place: str, nodes: int) -> list[int]:
    match value:
        case ast.Call(func=ast.Name("range"), args=items, keywords=[]) | ast.List(items) | ast.Tuple(items):
            numbers = [item.value for item in items if isinstance(item, ast.Constant) and type(item.value) is int]
            if len(numbers) == len(items):
                try:
                    outputs = range(*numbers) if isinstance(value, ast.Call) else numbers
                except (TypeError, ValueError):
                    outputs = []
                # Before the list is made: the range may be endless.
                _check_nodes(outputs, nodes, place)
                return _list_of(_integer, list(outputs), place)
    raise ArchitectureError(f"{place}: must be range(first, end) or a list of nodes, got {_text(value)}")


def _genotype_cell(nodes: list[list[_Entry]], names: tuple[str, ...], outputs: list[int], inputs: int) -> Cell:
    targets = range(inputs, inputs + len(nodes))
    row = {edge: i for i, edge in enumerate((source, target) for target in targets for source in range(target))}
    code = np.zeros((len(row), len(names)), np.uint8)
    for target, entries in zip(targets, nodes, strict=True):
        for name, source, place in entries:
            if name not in names:
                raise ArchitectureError(f"{place}: unknown operation {name!r}; {nearest(name, names)}")
            if source >= target:
                raise ArchitectureError(f"{place}: input {source} does not exist; node {target} has 0..{target - 1}")
            position = row[source, target], names.index(name)
            if code[position] == MAX_COUNT:
                raise ArchitectureError(f"{place}: {name} is on this edge more than {MAX_COUNT} times")
            code[position] += 1
    return Cell(names, tuple(row), tuple(outputs), code, inputs)


def _text(value: ast.expr) -> str:
    try:
        return shortened(ast.unparse(value))
    except RecursionError:
        return "something nested too deeply"


class _Module(ModuleType):
    """This module, callable: `datanas.architecture` is both the module and the function of that name."""

    def __call__(self, name: str) -> Architecture:
        from datanas.published import architecture

        return architecture(name)


sys.modules[__name__].__class__ = _Module
