"""Tables of known accuracies: what was measured of every cell of a space whose edges hold one operation each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datanas.codes.accuracy_file import ACCURACY, read_table
from datanas.codes.architecture import Architecture
from datanas.codes.benchmark_text import BENCHMARK_PRIMITIVES, Edges, cell_operations, print_operations
from datanas.core.errors import ArchitectureError, DataError, nearest


@dataclass(frozen=True)
class Truth:
    """What a table knows about an architecture, and about the distribution that it came from.

    Attributes:
        metric: the column of the table.
        value: the architecture's own.
        percentile: share of all cells with a lower or equal value, in per cent.
        expected: the mean over the distribution, where one was given.
        best: the highest value of all cells.
    """

    metric: str
    value: float
    percentile: float
    expected: float | None
    best: float


class AccuracyTable:
    """Every cell of a space of `ops` operations on `edges` edges: ops ** edges rows, each cell once.

    Args:
        primitives: the operations, in the order of their numbers in `codes`.
        edges: (source, target) of each column of `codes`: all edges among the nodes, by target, then source.
        codes: (rows, edges), the operation on each edge.
        metrics: (rows,) each. The first is an accuracy, and so are all whose names begin with `test_acc/`; these are
            finite in every row.
        name: the file, for messages.
        first_row: number of the first row in messages; 2 where a row is a line under a header.

    Raises:
        DataError: one of these rules is broken; the message names the cell.
    """

    def __init__(
        self,
        primitives: Sequence[str],
        edges: Edges,
        codes: NDArray[Any],
        metrics: Mapping[str, NDArray[Any]],
        name: str = "table",
        *,
        first_row: int = 0,
    ) -> None:
        self.primitives = tuple(primitives)
        self.edges = edges
        self.codes = np.asarray(codes, np.int64)
        self.metrics: Mapping[str, NDArray[np.float64]] = MappingProxyType(
            {metric: np.asarray(values, np.float64) for metric, values in metrics.items()}
        )
        self._name = name
        self._rows = self._index(first_row)
        for metric in self.metrics:
            if metric == self.default_metric or metric.startswith(ACCURACY):
                self._finite(metric)

    @classmethod
    def load(cls, path: str | os.PathLike[str], primitives: Sequence[str] = BENCHMARK_PRIMITIVES) -> AccuracyTable:
        """Read a table.

        Args:
            path: an .npz file with `ops` (rows, edges), whose entries index `op_names`, `edges` (edges, 2), `test_acc`
                (rows, datasets) and `datasets`; every further array (rows,) of numbers is a metric too. Or a CSV file
                whose first column `architecture` holds NAS-Bench-201's strings, and the others numbers.
            primitives: the operations of the space. The table has these and no others, in any order.

        Raises:
            DataError: the file is missing, is neither, or holds no such table.
        """
        read = read_table(Path(path), tuple(primitives))
        return cls(primitives, read.edges, read.codes, read.metrics, str(Path(path)), first_row=read.first_row)

    @property
    def default_metric(self) -> str:
        """The first accuracy."""
        return next(iter(self.metrics))

    def row(self, architecture: Architecture) -> int:
        """The row of an architecture.

        Raises:
            ArchitectureError: it is none of the space that the table covers.
        """
        if architecture.cells.keys() != {"cell"}:
            raise ArchitectureError(f"cells: {self._name} knows one named 'cell', got {', '.join(architecture.cells)}")
        cell = architecture.cells["cell"]
        if not np.array_equal(architecture.weights("cell"), cell.code):
            raise ArchitectureError(f"aggregate: {self._name} knows nodes that are sums, got {architecture.aggregate}")
        names = cell_operations(cell)
        if len(names) != len(self.edges):
            raise ArchitectureError(
                f"cells.cell: {self._name} knows cells of {len(self.edges)} edges, got {len(names)}"
            )
        for name in names:
            if name not in self.primitives:
                raise ArchitectureError(f"cells.cell: {self._name} knows no {name!r}; {nearest(name, self.primitives)}")
        code = np.array([self.primitives.index(name) for name in names])
        return int(self._rows[code @ self._radix])

    def string(self, row: int) -> str:
        """NAS-Bench-201's text of a row."""
        return self._text(self.codes[row])

    def value(self, architecture: Architecture, metric: str) -> float:
        """What was measured of an architecture.

        Raises:
            ArchitectureError: as for `row`.
            DataError: there is no such metric, or it is not known for every cell.
        """
        return float(self._finite(metric)[self.row(architecture)])

    def percentile(self, value: float, metric: str) -> float:
        """The share of cells with a lower or equal value, in per cent, 0..100; cells that tie with it count in full.

        Raises:
            DataError: as for `value`.
        """
        values = self._finite(metric)
        return 100.0 * int(np.count_nonzero(values <= value)) / len(values)

    def expected(self, probs: ArrayLike, metric: str) -> float:
        """The exact mean of a metric where each edge chooses its operation independently.

        sum_cells metric(cell) prod_e probs[e, cell_e] in float64.

        Args:
            probs: (edges, ops), not negative; each row is divided by its sum.
            metric: a column.

        Raises:
            ValueError: `probs` has another shape, or holds a number that is negative or not finite, or a row of zeros.
            DataError: as for `value`.
        """
        values, given = self._finite(metric), np.asarray(probs, np.float64)
        shape = len(self.edges), len(self.primitives)
        if given.shape != shape:
            raise ValueError(f"probs must have shape {shape}, got {given.shape}")
        if not np.isfinite(given).all() or (given < 0).any():
            raise ValueError("probs must be finite and not negative")
        totals = given.sum(axis=1, keepdims=True)
        if not (np.isfinite(totals) & (totals > 0)).all():
            raise ValueError("probs must have a positive, finite sum in every row")
        weights = np.ones(len(values))
        for choices, column in zip(given / totals, self.codes.T, strict=True):
            weights *= choices[column]
        return float(weights @ values)

    def best(self, metric: str) -> float:
        """The highest value of a metric.

        Raises:
            DataError: as for `value`.
        """
        return float(self._finite(metric).max())

    def truth(self, architecture: Architecture, probs: ArrayLike | None = None, metric: str | None = None) -> Truth:
        """What the table knows about an architecture and, where `probs` are given, about their distribution.

        Raises:
            ArchitectureError, DataError, ValueError: as for `value` and `expected`.
        """
        metric = self.default_metric if metric is None else metric
        value = self.value(architecture, metric)
        expected = None if probs is None else self.expected(probs, metric)
        return Truth(metric, value, self.percentile(value, metric), expected, self.best(metric))

    @property
    def _radix(self) -> NDArray[np.int64]:
        return np.array([len(self.primitives) ** power for power in range(len(self.edges))][::-1], np.int64)

    def _text(self, code: Iterable[int]) -> str:
        return print_operations([self.primitives[op] for op in code])

    def _index(self, first_row: int) -> NDArray[np.int64]:
        """The row of each cell, by the cell's number with `ops` as the base."""
        ops, edges, rows = len(self.primitives), len(self.edges), len(self.codes)
        if ops**edges >= 2**62:
            raise DataError(f"{self._name}: {ops} operations on {edges} edges are too many cells for a table")
        numbers = self.codes @ self._radix
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(again):
            first, second = sorted(int(order[again[0] + i]) for i in (0, 1))
            raise DataError(
                f"{self._name}: {self.string(first)} is in rows {first + first_row} and {second + first_row}"
            )
        if rows < ops**edges:
            gaps = np.flatnonzero(ordered != np.arange(rows))
            number = int(gaps[0]) if len(gaps) else rows
            missing = self._text(number // self._radix % ops)
            raise DataError(f"{self._name}: {ops**edges - rows} of {ops**edges} cells are missing, such as {missing}")
        return order

    def _finite(self, metric: str) -> NDArray[np.float64]:
        if metric not in self.metrics:
            raise DataError(f"{self._name}: no metric {metric!r}; {nearest(metric, self.metrics)}")
        values = self.metrics[metric]
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"{self._name}: {metric} is not known for {len(bad)} cells: it is {values[row]} for {self.string(row)}"
            )
        return values
