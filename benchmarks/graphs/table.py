"""NAS-Bench-Graph's table: accuracy and size of each of its networks on one graph (Qin et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.graphs.architectures import number
from benchmarks.graphs.plain_pickle import read_plain
from datanas.core.errors import DataError


@dataclass(frozen=True)
class Table:
    """What was measured of every network, a row each.

    Attributes:
        numbers: (rows,), in ascending order.
        validation, test: (rows,) accuracies in 0..1, means of three trainings.
        parameters: (rows,), in millions.
    """

    numbers: NDArray[np.int64]
    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    parameters: NDArray[np.float64]

    @classmethod
    def load(cls, file: Path) -> Table:
        """Read one of the .bench files of the package nas-bench-graph.

        Raises:
            DataError: it is missing, names anything but data, or holds no such table.
        """
        found = read_plain(file)
        try:
            numbers = sorted(found)
            columns = [
                np.array([float(found[each][key]) for each in numbers]) for key in ("valid_perf", "perf", "para")
            ]
            return cls(np.array(numbers, np.int64), *columns)
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"{file}: not a table of NAS-Bench-Graph: {type(error).__name__} {error}") from None

    def row(self, links: Sequence[int], operations: Sequence[str]) -> int:
        """The row of an architecture.

        Raises:
            DataError: the table lacks it, as it does the network of skip connections alone.
            ValueError: it is none.
        """
        wanted = number(links, operations)
        at = int(np.searchsorted(self.numbers, wanted))
        if at == len(self.numbers) or self.numbers[at] != wanted:
            raise DataError(f"the table lacks {list(links)}, {', '.join(operations)} (number {wanted})")
        return at

    def percentile(self, row: int) -> float:
        """The share of networks whose test accuracy is lower or equal, in per cent."""
        return 100.0 * float(np.mean(self.test <= self.test[row]))

    def same_size(self, row: int, within: float = 0.05) -> float:
        """The mean test accuracy of the networks whose parameters differ by at most this share."""
        near = np.abs(self.parameters / self.parameters[row] - 1) <= within
        return float(self.test[near].mean())

    def best_of(self, count: int) -> float:
        """The expected test accuracy of the one with the highest validation accuracy among `count` random networks.

        Exact: sum over ranks r of test_r (F_r^count - F_(r-1)^count), F_r = r / rows, drawn with replacement. Networks
        of equal validation accuracy share their mean.
        """
        order = np.argsort(self.validation, kind="stable")
        _, start, size = np.unique(self.validation[order], return_index=True, return_counts=True)
        means = np.add.reduceat(self.test[order], start) / size
        upper = (start + size) / len(order)
        return float(means @ (upper**count - (start / len(order)) ** count))
