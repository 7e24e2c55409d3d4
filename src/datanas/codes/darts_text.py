"""DARTS' text form of cells (Liu et al., 2019): `Genotype(normal=[("sep_conv_3x3", 0), ...], normal_concat=...)`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np

from datanas.codes.cell import MAX_COUNT, Cell
from datanas.codes.text_form import Form, tell_last
from datanas.core.checks import check_keys, check_nodes, read_integer, read_list, read_name
from datanas.core.errors import ArchitectureError, nearest

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

_LONGEST = 100_000
"""Characters of a genotype; the largest that are published have some 2,000."""
_TRIED = 100
"""Beginnings of a genotype, from the last, among which a whole one is looked for."""
_BEGINNING = re.compile(r"\bGenotype\s*\(|\{\s*['\"](?:normal|reduce|recurrent)(?:_concat)?['\"]\s*:")
"""DARTS' namedtuple, or the mapping of the same fields that AutoDL-Projects prints."""
WANTED = (
    "genotype: must read Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...) "
    "or Genotype(recurrent=[...], concat=...)"
)
_BRACKETS = {")": "(", "]": "[", "}": "{"}


class _Shape(NamedTuple):
    """A shape of DARTS' namedtuple.

    `groups` maps the field of each cell to the field of its outputs; `entries` is how many a node has in a flat list.
    """

    space: str
    inputs: int
    entries: int
    primitives: tuple[str, ...]
    groups: dict[str, str]


_SHAPES = (
    _Shape("conv_cell", 2, 2, CONV_PRIMITIVES, {"normal": "normal_concat", "reduce": "reduce_concat"}),
    _Shape("recurrent_cell", 1, 1, RECURRENT_PRIMITIVES, {"recurrent": "concat"}),
)


_STACKED = re.compile(r"(?:normal|reduce)_([0-9]{1,4})")
"""The names of cells that are searched each for itself, by kind and place."""


def _stack_shape(names: Iterable[str]) -> _Shape | None:
    """The shape of cells of which each has a place of its own, in the order of the places; None where none has."""
    places = {name: int(match[1]) for name in names if (match := _STACKED.fullmatch(name))}
    groups = {name: f"{name}_concat" for name in sorted(places, key=places.__getitem__)}
    return _Shape("conv_stack", 2, 2, CONV_PRIMITIVES, groups) if groups else None


def _shape_of(groups: Iterable[str]) -> _Shape | None:
    """The shape of just these cells."""
    names = frozenset(groups)
    shapes = [*_SHAPES, *filter(None, [_stack_shape(names)])]
    return next((shape for shape in shapes if shape.groups.keys() == names), None)


class _Entry(NamedTuple):
    name: str
    source: int
    where: str


def is_mapping(text: str) -> bool:
    """Whether a text begins as a genotype that is written as a mapping, not as a document does."""
    return bool(_BEGINNING.match(text.lstrip()))


class DartsForm(Form):
    """A normal and a reduction cell, one for each place, or a recurrent one; also amid other text, such as a log."""

    def holds(self, text: str) -> bool:
        return bool(_BEGINNING.search(text))

    def fits(self, groups: frozenset[str]) -> bool:
        return _shape_of(groups) is not None

    def parse(self, text: str, primitives: Sequence[str] | None) -> tuple[str, dict[str, Cell]]:
        starts = [match.start() for match in _BEGINNING.finditer(text)]
        whole = next(filter(None, (_whole(text, start) for start in starts[:-_TRIED:-1])), None)
        if whole is None:
            raise ArchitectureError("genotype: a bracket or quote is not closed")
        tell_last(starts)
        fields = _read_fields(whole)
        known = next((shape for shape in _SHAPES if not shape.groups.keys().isdisjoint(fields)), None)
        shape = known or _stack_shape(fields) or _SHAPES[0]
        check_keys(fields, [field for pair in shape.groups.items() for field in pair])
        nodes = {group: _read_nodes(fields[group], group, shape.entries) for group in shape.groups}
        if primitives is None:
            used = {entry.name for group in nodes.values() for node in group for entry in node}
            primitives = (*shape.primitives, *sorted(used.difference(shape.primitives)))
        cells = {}
        for group, concat in shape.groups.items():
            outputs = _read_concat(fields[concat], concat, shape.inputs + len(nodes[group]))
            cells[group] = _read_cell(nodes[group], tuple(primitives), outputs, shape.inputs)
        return shape.space, cells

    def print(self, cells: Mapping[str, Cell]) -> str:
        shape = _shape_of(cells)
        if shape is None or any(cell.inputs != shape.inputs for cell in cells.values()):
            raise ArchitectureError(
                "DARTS' text form knows a normal and a reduction cell of two inputs, or a recurrent cell of one; "
                f"this architecture has the cells {', '.join(cells)}"
            )
        parts = []
        for group, concat in shape.groups.items():
            cell = cells[group]
            nodes = [cell.node_inputs(target) for target in range(cell.inputs, cell.nodes)]
            is_flat = all(len(node) == shape.entries for node in nodes)
            entries = [entry for node in nodes for entry in node] if is_flat else nodes
            outputs = list(cell.outputs)
            run = range(outputs[0], outputs[-1] + 1)
            parts += [f"{group}={entries!r}", f"{concat}={run if outputs == list(run) else outputs!r}"]
        return f"Genotype({', '.join(parts)})"


def _whole(text: str, start: int) -> str | None:
    """The text from `start` to where its first bracket is closed; None where that is nowhere."""
    opened: list[str] = []
    quote = ""
    escaped = False
    for position in range(start, min(len(text), start + _LONGEST)):
        character = text[position]
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "'\"":
            quote = character
        elif character in "([{":
            opened.append(character)
        elif character in _BRACKETS:
            if opened.pop() != _BRACKETS[character]:
                return None
            if not opened:
                return text[start : position + 1]
    return None


def _read_fields(text: str) -> dict[str, ast.expr]:
    """The fields of a whole genotype; others that hold None, such as AutoDL-Projects' `connects`, are left out."""
    try:
        call = ast.parse(" ".join(text.split()), mode="eval").body
    except SyntaxError as error:
        near = (error.text or "")[max((error.offset or 1) - 1, 0) :]
        raise ArchitectureError(f"genotype: cannot be read near {shortened(near)}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ArchitectureError("genotype: cannot be read") from None
    pairs: list[tuple[Any, ast.expr]] = []
    match call:
        case ast.Call(args=[], keywords=keywords):
            pairs = [(keyword.arg, keyword.value) for keyword in keywords]
        case ast.Dict(keys, values):
            pairs = [(getattr(key, "value", None), value) for key, value in zip(keys, values, strict=True)]
        case _:
            raise ArchitectureError(WANTED)
    names = read_list(read_name, [name for name, _ in pairs], "genotype")
    known = {name for shape in _SHAPES for pair in shape.groups.items() for name in pair}
    return {
        name: value
        for name, (_, value) in zip(names, pairs, strict=True)
        if name in known or not isinstance(value, ast.Constant) or value.value is not None
    }


def _read_nodes(value: ast.expr, group: str, entries: int) -> list[list[_Entry]]:
    match value:
        case ast.List(items) | ast.Tuple(items) if items:
            pass
        case _:
            raise ArchitectureError(f"{group}: must be a list of (operation, input), got {_text(value)}")
    match items[0]:
        case ast.List([ast.Name() | ast.Constant(), *_]) | ast.Tuple([ast.Name() | ast.Constant(), *_]):
            flat = [_read_entry(item, f"{group}[{i}]") for i, item in enumerate(items)]
            if len(flat) % entries:
                raise ArchitectureError(f"{group}: a flat list needs {entries} entries a node, got {len(flat)} in all")
            return [flat[i : i + entries] for i in range(0, len(flat), entries)]
    nodes = []
    for i, item in enumerate(items):
        match item:
            case ast.List(node) | ast.Tuple(node):
                nodes.append([_read_entry(entry, f"{group}[{i}][{j}]") for j, entry in enumerate(node)])
            case _:
                raise ArchitectureError(f"{group}[{i}]: must be a list of (operation, input), got {_text(item)}")
    return nodes


def _read_entry(value: ast.expr, where: str) -> _Entry:
    match value:
        case ast.List([name, ast.Constant(int(source)), *rest]) | ast.Tuple([name, ast.Constant(int(source)), *rest]):
            is_entry = not isinstance(source, bool) and (not rest or (len(rest) == 1 and _is_weight(rest[0])))
            match name:
                case ast.Name(str(operation)) | ast.Constant(str(operation)) if is_entry:
                    return _Entry(operation, source, where)
    raise ArchitectureError(f"{where}: must be (operation, input), got {_text(value)}")


def _is_weight(value: ast.expr) -> bool:
    """Whether this is how strong an operation was, which AutoDL-Projects prints with it: 0.15 or np.float32(0.15)."""
    match value:
        case ast.Constant(float()) | ast.Call(args=[ast.Constant(float())]):
            return True
        case ast.UnaryOp(operand=operand):
            return _is_weight(operand)
    return False


def _read_concat(value: ast.expr, where: str, nodes: int) -> list[int]:
    match value:
        case ast.Call(func=ast.Name("range"), args=items, keywords=[]) | ast.List(items) | ast.Tuple(items):
            numbers = [item.value for item in items if isinstance(item, ast.Constant) and type(item.value) is int]
            if len(numbers) == len(items):
                try:
                    outputs = range(*numbers) if isinstance(value, ast.Call) else numbers
                except (TypeError, ValueError):
                    outputs = []
                # Before the list is made: the range may be endless.
                check_nodes(outputs, nodes, where)
                return read_list(read_integer, list(outputs), where)
    raise ArchitectureError(f"{where}: must be range(first, end) or a list of nodes, got {_text(value)}")


def _read_cell(nodes: list[list[_Entry]], names: tuple[str, ...], outputs: list[int], inputs: int) -> Cell:
    targets = range(inputs, inputs + len(nodes))
    row = {edge: i for i, edge in enumerate((source, target) for target in targets for source in range(target))}
    code = np.zeros((len(row), len(names)), np.uint8)
    for target, entries in zip(targets, nodes, strict=True):
        for name, source, where in entries:
            if name not in names:
                raise ArchitectureError(f"{where}: unknown operation {name!r}; {nearest(name, names)}")
            if source >= target:
                raise ArchitectureError(f"{where}: input {source} does not exist; node {target} has 0..{target - 1}")
            position = row[source, target], names.index(name)
            if code[position] == MAX_COUNT:
                raise ArchitectureError(f"{where}: {name} is on this edge more than {MAX_COUNT} times")
            code[position] += 1
    return Cell(names, tuple(row), tuple(outputs), code, inputs)


def _text(value: ast.expr) -> str:
    try:
        return shortened(ast.unparse(value))
    except RecursionError:
        return "something nested too deeply"
