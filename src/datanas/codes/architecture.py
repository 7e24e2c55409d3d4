"""Architecture: what a search keeps and everything downstream starts from. Plain data, no torch.

Written as JSON (`datanas.codes.document`), or as the text of DARTS or NAS-Bench-201 (`datanas.codes.genotype`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from hashlib import blake2b
from pathlib import Path
from reprlib import repr as shortened
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datanas.codes.cell import Cell as Cell
from datanas.codes.darts_text import CONV_PRIMITIVES as CONV_PRIMITIVES
from datanas.codes.darts_text import RECURRENT_PRIMITIVES as RECURRENT_PRIMITIVES
from datanas.codes.darts_text import is_mapping
from datanas.codes.document import plain_document, plain_notes, print_document, read_document
from datanas.codes.genotype import holds_genotype, print_genotype, read_genotype
from datanas.core.atomic import write_atomic
from datanas.core.checks import read_name, read_object
from datanas.core.errors import ArchitectureError
from datanas.core.paths import read_text


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
        posterior: what the choice rests on, {"log_prob": float, "margin": float, "samples": int, ...}, or where that is
            no probability, {"score": float, "measure": what the score is, ...}.
        source: free notes on the origin. Like `posterior` it must be JSON; what is not finite becomes None.
        file: where `load` read it; None of any other, among them one that was changed.

    Raises:
        ArchitectureError: a field is none of these; the message begins with its name.

    >>> cell = Architecture.from_genotype("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|")
    >>> cell == Architecture.from_json(cell.to_json())
    True
    >>> {name: code.shape for name, code in cell.code.items()}
    {'cell': (3, 5)}
    """

    cells: Mapping[str, Cell]
    _: KW_ONLY
    space: str = "conv_cell"
    scope: str = "edge"
    aggregate: str = "sum"
    posterior: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    file: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if not self.cells:
            raise ArchitectureError("cells: must hold at least one cell")
        for field_name, value in (("space", self.space), *(("cells", name) for name in self.cells)):
            read_name(value, field_name)
        for field_name, value, allowed in (
            ("scope", self.scope, ("edge", "node")),
            ("aggregate", self.aggregate, ("sum", "mean")),
        ):
            if value not in allowed:
                raise ArchitectureError(f"{field_name}: must be {' or '.join(allowed)}, got {shortened(value)}")
        notes = {
            field_name: None if value is None else plain_notes(read_object(value, field_name), field_name)
            for field_name, value in (("posterior", self.posterior), ("source", self.source))
        }
        for key in ("log_prob", "margin", "samples"):
            number = (notes["posterior"] or {}).get(key)
            if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
                raise ArchitectureError(f"posterior.{key}: must be a number, got {shortened(number)}")
        cells = {name: self.cells[name] for name in sorted(self.cells, key=_natural)}
        for name, fixed in (("cells", MappingProxyType(cells)), *notes.items()):
            object.__setattr__(self, name, fixed)

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
        return plain_document(self.cells, space=self.space, scope=self.scope, aggregate=self.aggregate)

    def to_json(self) -> str:
        """The architecture as JSON, indented by 2, with short lists on one line; `from_json` reads it back."""
        notes = {"posterior": self.posterior, "source": self.source}
        return print_document(self._plain() | {key: value for key, value in notes.items() if value is not None})

    @classmethod
    def from_json(cls, text: str | Mapping[str, Any]) -> Architecture:
        """Read what `to_json` wrote, as text or already parsed.

        Raises:
            ArchitectureError: it is anything else; the message holds the place in the document, what is there and
                what would be right.

        >>> Architecture.from_json(Architecture.from_genotype("|none~0|").to_json()).space
        'nasbench201'
        """
        try:
            cells, rest = read_document(text)
            return cls(cells, **rest)
        except RecursionError:
            raise ArchitectureError("the document is nested too deeply") from None

    @classmethod
    def from_text(cls, text: str) -> Architecture:
        """Read an architecture in whatever form people hand on: `to_json`'s, or a genotype, also inside a log.

        Raises:
            ArchitectureError: the text holds none, or a wrong one.
        """
        text = text.removeprefix("\ufeff")
        is_document = text.lstrip().startswith(("{", "["))
        if holds_genotype(text) and (is_mapping(text) or not is_document):
            return cls.from_genotype(text)
        if not is_document:
            raise ArchitectureError("neither an architecture in JSON nor a genotype")
        return cls.from_json(text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to `path`; a reader sees the old file or the new one, never half of it.

        Raises:
            StorageError: the file cannot be written.
        """
        write_atomic(Path(path), self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Architecture:
        """Read a file that `save` wrote, or one with a genotype in it (`from_text`).

        Whether its space and operations are known shows when a network is built of it (`naming_file`).

        Raises:
            ArchitectureError: the file cannot be read or holds no architecture; the message names the file.
        """
        text = read_text(os.fspath(path), ArchitectureError)
        try:
            architecture = cls.from_text(text)
        except ArchitectureError as error:
            raise ArchitectureError(f"{path}: {error}") from None
        object.__setattr__(architecture, "file", os.fspath(path))
        return architecture

    @contextmanager
    def naming_file(self) -> Iterator[None]:
        """Run a block whose ArchitectureError names the file that the architecture was loaded from, once."""
        try:
            yield
        except ArchitectureError as error:
            if self.file is None or str(error).startswith(f"{self.file}: "):
                raise
            raise ArchitectureError(f"{self.file}: {error}") from None

    @classmethod
    def from_genotype(
        cls, text: str, *, primitives: Sequence[str] | None = None, scope: str = "edge", aggregate: str = "sum"
    ) -> Architecture:
        """Read the text of DARTS, or that of NAS-Bench-201, which begins with `|` (`datanas.codes.benchmark_text`).

        `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=[...])`, or
        `Genotype(recurrent=[('relu', 0), ...], concat=range(1, 9))`; with a cell for each place
        `Genotype(normal_0=[...], normal_0_concat=..., reduce_1=[...], ...)`. The entries (operation, input) stand in
        one list, two a node (recurrent: one), or in a list per node, any number of them. Names may lack their quotes,
        and a weight may follow the input, as AutoDL-Projects prints it; it does not count. The edges are those of the
        complete graph, node by node. An entry `none` stands for nothing.

        Args:
            text: the genotype, whatever stands before and behind it; of several, as in a log, the last whole one, with
                a warning. Nothing in it is executed.
            primitives: the candidate operations. Default: those of DARTS or of NAS-Bench-201, and behind them in sorted
                order the further names of the text.
            scope: as in the class; the text does not say.
            aggregate: likewise.

        Raises:
            ArchitectureError: the text is something else; the message names the place.

        >>> text = "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2],"
        >>> text += " reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=[2])"
        >>> Architecture.from_genotype(text).cells["normal"].node_inputs(2)
        [('sep_conv_3x3', 0), ('skip_connect', 1)]
        """
        space, cells = read_genotype(text, primitives)
        return cls(cells, space=space, scope=scope, aggregate=aggregate)

    def to_genotype(self) -> str:
        """DARTS' text form: one flat list where every node has two operations (recurrent: one), else a list per node.

        A single cell named "cell" has NAS-Bench-201's text form, one named "layers" NAS-Bench-Macro's. `from_genotype`
        makes an equal architecture of it where the primitives, `scope` and `aggregate` are its defaults and the edges
        are those of the complete graph, or of the benchmark's layers; the text holds none of these.

        Raises:
            ArchitectureError: the cells are not a normal and a reduction cell, or one for each place, one recurrent
                cell, a "cell" of one input with at most one operation on an edge, or "layers" with one on each.
        """
        return print_genotype(self.cells)


def _natural(name: str) -> tuple[list[str | int], str]:
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name))], name
