"""Latency from a table: what each operation takes at each shape, and how these add up to a network.

    latency = constant + per cell * live cells + overlap * sum over live operations of their time

The three coefficients are fitted to the times of whole networks (`datanas.engine.calibrate`). A table that a user
brings has none: there the operations simply add up. Milliseconds everywhere; files name their unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import nn

from datanas.budgets.base import CostTable
from datanas.budgets.latency_file import read_latency_table, table_json
from datanas.codes.architecture import Architecture
from datanas.core.atomic import write_atomic
from datanas.core.errors import DataError, nearest
from datanas.spaces.base import Space
from datanas.spaces.workload import CellWork, Workload


@dataclass(frozen=True)
class LatencyFit:
    """How the times of operations add up to that of a network.

    Attributes:
        constant_ms: stem, head, and what every network has.
        per_cell_ms: what a live cell takes beside its operations.
        overlap: the share of the summed times that is left where the operations run in one network.
    """

    constant_ms: float = 0.0
    per_cell_ms: float = 0.0
    overlap: float = 1.0

    @classmethod
    def of(cls, sums_ms: Sequence[float], cells: Sequence[int], measured_ms: Sequence[float]) -> LatencyFit:
        """The coefficients, none below 0, with the least mean square of the relative errors.

        Args:
            sums_ms: of the operations of each network.
            cells: live cells of each.
            measured_ms: of each.
        """
        columns = np.stack([np.ones(len(sums_ms)), np.asarray(cells, float), np.asarray(sums_ms, float)], axis=1)
        if len(set(cells)) == 1:  # their share cannot be told from the constant
            columns[:, 1] = 0
        from scipy.optimize import nnls  # takes longer to load than all else here

        coefficients, _ = nnls(columns / np.asarray(measured_ms)[:, None], np.ones(len(sums_ms)))
        return cls(*map(float, coefficients))

    def __call__(self, sum_ms: float, cells: int) -> float:
        """Milliseconds of a network."""
        return self.constant_ms + self.per_cell_ms * cells + self.overlap * sum_ms


@dataclass(frozen=True)
class HeldOut:
    """Networks that were timed and not fitted to.

    Attributes:
        measured_ms, predicted_ms: of each.
        repeat_error: mean relative difference between two halves of the measurements of the same networks: a
            prediction cannot be shown to be better than that.
    """

    measured_ms: tuple[float, ...]
    predicted_ms: tuple[float, ...]
    repeat_error: float

    @property
    def error(self) -> float:
        """The mean of |predicted - measured| / measured."""
        measured, predicted = np.array(self.measured_ms), np.array(self.predicted_ms)
        return float(np.mean(np.abs(predicted - measured) / measured))

    @property
    def rank_correlation(self) -> float:
        """Spearman's; NaN where all are equal."""
        if len(set(self.measured_ms)) < 2 or len(set(self.predicted_ms)) < 2:
            return float("nan")
        from scipy.stats import spearmanr

        return float(spearmanr(self.measured_ms, self.predicted_ms).statistic)


@dataclass(frozen=True)
class LatencyTable:
    """What operations take at their shapes on one machine.

    Attributes:
        times: milliseconds of each workload.
        machine: where they were measured: "device", "threads", "torch", ...; None where a user's table says nothing.
        network: the network whose shapes they are; None likewise. The fit holds for no other.
        fit: how they add up.
        held_out: how well; None where it was not measured.
        source: the file, for messages.

    Raises:
        DataError: a time is negative or no number.
    """

    times: Mapping[Workload, float]
    machine: Mapping[str, Any] | None = None
    network: Mapping[str, Any] | None = None
    fit: LatencyFit = LatencyFit()
    held_out: HeldOut | None = None
    source: str = field(default="latency table", compare=False)

    def __post_init__(self) -> None:
        for workload, time in self.times.items():
            if not np.isfinite(time) or time < 0:
                raise DataError(f"{self.source}: {workload}: a latency must be finite and at least 0, got {time}")
        for name, value in vars(self.fit).items():
            if not np.isfinite(value) or value < 0:
                raise DataError(f"{self.source}: fit.{name}: must be finite and at least 0, got {value}")
        object.__setattr__(self, "times", MappingProxyType(dict(self.times)))

    def __str__(self) -> str:
        """What it is of and how well it predicts, for people."""
        machine, network, fit, checked = self.machine or {}, self.network or {}, self.fit, self.held_out
        times = self.times.values()
        of_cells = f"{fit.per_cell_ms:.3f} ms a cell + " if fit.per_cell_ms else ""
        lines = [
            f"table          {self.source}",
            f"machine        {', '.join(f'{name} {value}' for name, value in machine.items()) or 'not said'}",
            f"network        {', '.join(f'{name} {value}' for name, value in network.items()) or 'not said'}",
            f"operations     {len(times)} timed, {min(times):.3f} to {max(times):.3f} ms",
            f"fit            {fit.constant_ms:.3f} ms + {of_cells}{fit.overlap:.3f} times the sum of its operations",
        ]
        if checked is not None:
            lines.append(
                f"error          on {len(checked.measured_ms)} further networks of {min(checked.measured_ms):.2f} to "
                f"{max(checked.measured_ms):.2f} ms: {100 * checked.error:.1f} % on average, rank correlation "
                f"{checked.rank_correlation:.3f}; two halves of the measurements differ by "
                f"{100 * checked.repeat_error:.1f} %"
            )
        return "\n".join(lines)

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read what `save` wrote, or a table of one's own (`datanas.budgets.latency_file`).

        Raises:
            DataError: the file is missing, is neither, or holds a cost that is none.
        """
        table = read_latency_table(Path(path))
        held_out = None if table.held_out is None else HeldOut(**table.held_out)
        return cls(table.times, table.machine, table.network, LatencyFit(**table.fit), held_out, str(path))

    def save(self, path: str | Path) -> None:
        """Write the table as JSON.

        Raises:
            StorageError: the file cannot be written.
        """
        held_out = self.held_out
        further = None if held_out is None else {"error": held_out.error, "rank_correlation": held_out.rank_correlation}
        text = table_json(
            self.times,
            machine=self.machine,
            network=self.network,
            fit=vars(self.fit),
            held_out=None if held_out is None or further is None else {**vars(held_out), **further},
        )
        write_atomic(Path(path), text.encode())

    def require(self, *, machine: Mapping[str, Any] | None = None, network: Mapping[str, Any] | None = None) -> None:
        """Refuse a table that was measured elsewhere, or of another network; what it does not say is not refused.

        Raises:
            DataError: it was.
        """
        for what, wanted, own in (("machine", machine, self.machine), ("network", network, self.network)):
            if wanted is None or own is None:
                continue
            other = [
                f"{name} {own.get(name)!r}, not {value!r}" for name, value in wanted.items() if own.get(name) != value
            ]
            if other:
                raise DataError(
                    f"{self.source}: is of another {what}: {'; '.join(other)}; make one here with datanas calibrate"
                )

    def require_all(self, workloads: Iterable[Workload]) -> None:
        """Refuse a table in which a time is missing.

        Raises:
            DataError: it is; the message says how many are, and the first.
        """
        missing = sorted({each for each in workloads if each not in self.times})
        if not missing:
            return
        first, names = missing[0], {each.primitive for each in self.times}
        if first.primitive not in names:
            hint = f"no operation {first.primitive!r} is in it; {nearest(first.primitive, names)}"
        else:
            hint = (
                f"of {first.primitive} it has {'; '.join(str(e) for e in self.times if e.primitive == first.primitive)}"
            )
        raise DataError(f"{self.source}: lacks {len(missing)} of the needed latencies, such as {first}: {hint}")

    def predict(self, architecture: Architecture, space: Space, stem: nn.Module, example: Any) -> float:
        """Milliseconds of the rebuilt network.

        Args:
            space: of the network's size (`Space.at_size`).
            stem, example: what stands before its cells, and what that is given.

        Raises:
            DataError: the table lacks an operation or a shape.
        """
        return self.fit(*self.sum_of(architecture, space, space.work(stem, example)))

    def sum_of(self, architecture: Architecture, space: Space, work: Sequence[CellWork]) -> tuple[float, int]:
        """The summed times of the live operations in milliseconds, and the number of live cells.

        Args:
            work: of the space.
        """
        groups = space.groups()
        parts = space.live_cells(architecture)
        wanted: list[Workload] = []
        for cell, part in zip(work, parts, strict=True):
            if part is None:
                continue
            chosen, group = architecture.cells[cell.group], groups[cell.group]
            for edge, op in zip(*np.nonzero(part.code), strict=True):
                ends, primitive = chosen.edges[edge], chosen.primitives[op]
                if ends not in group.edges or primitive not in group.primitives:
                    hint = "" if primitive in group.primitives else f"; {nearest(primitive, group.primitives)}"
                    raise DataError(
                        f"{self.source}: lacks {primitive} on the edge {ends}, which the space {space.name} as it is "
                        f"set does not offer{hint}"
                    )
                workload = cell.table[group.edges.index(ends)][group.primitives.index(primitive)]
                if workload is not None:
                    wanted += int(part.code[edge, op]) * [workload]
        self.require_all(wanted)
        return float(sum(self.times[each] for each in wanted)), sum(part is not None for part in parts)

    def additive(self, space: Space, stem: nn.Module, example: Any) -> CostTable:
        """The latency as a constant and a cost of each (edge, operation).

        Exact for `predict` of networks all of whose cells and chosen operations are live; where some are not, it is too
        high.

        Args:
            space, stem, example: as for `predict`.

        Raises:
            DataError: the table lacks an operation or a shape.
        """
        work = space.work(stem, example)
        self.require_all(each for cell in work for row in cell.table for each in row if each is not None)
        tables = {name: np.zeros(group.shape) for name, group in space.groups().items()}
        for cell in work:
            rows = [[0.0 if each is None else self.times[each] for each in row] for row in cell.table]
            tables[cell.group] += self.fit.overlap * np.array(rows)
        return CostTable(self.fit(0.0, len(work)), tables)
