"""Times of parts are those of the modules that the clock is read around, and add up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import torch

import datanas
from datanas.engine import part_times
from datanas.engine.exhibits import timed_cost_tables
from datanas.engine.part_times import INPUTS, REST, SUMS, PartTimes

PLACE = "cpu, 1 thread of a processor"


class Clock:
    """A second goes by whenever it is read."""

    def __init__(self) -> None:
        self._ticks: Iterator[int] = count()

    def perf_counter(self) -> float:
        return float(next(self._ticks))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Milliseconds by part and by operation of a network of five cells, each reading of the clock a second."""
    monkeypatch.setattr(part_times, "time", Clock())
    network = datanas.build_network("gdas", channels=4, cells=5).eval()
    found = timed_cost_tables(network, torch.zeros(1, 3, 16, 16))
    return {table.columns[0]: {str(row[0]): row[3] for row in table.rows} for table in found}


def test_a_cell_is_no_part_of_the_body_besides(rows: dict[str, dict[str, Any]]) -> None:
    # The body is entered, then each cell begins and ends: eleven seconds, of which five are the cells'.
    assert rows["part"] == {"stem": 1e3, **{f"cell {i}": 1e3 for i in range(1, 6)}, "body": 6e3, "head": 1e3}


def test_what_a_cell_does_beside_its_operations_counts_to_its_sums(rows: dict[str, dict[str, Any]]) -> None:
    network = datanas.build_network("gdas", channels=4, cells=5)
    operations = sum(len(getattr(node, "ops", ())) for node in network.modules() if type(node).__name__ == "MixedNode")
    found = dict(rows["operation"])
    assert found.pop(REST) == 1e3 * (1 + 6 + 1)
    # Between two readings of the clock inside a cell a second goes by that is neither input nor operation.
    assert found.pop(SUMS) == 1e3 * (operations + 10 + 5)
    assert found.pop(INPUTS) == 1e3 * 10
    assert sum(found.values()) == 1e3 * operations


def test_the_note_says_machine_threads_and_how_far_the_parts_add_up() -> None:
    times = PartTimes({"stem": 1.0, "head": 2.0}, {}, 4.0, 9, PLACE)
    note = times.note(times.by_part)
    assert f"on {PLACE}, warm, the median of 9 passes" in note
    assert "Together 3 ms, 75% of the 4 ms of a pass" in note


def test_a_slow_network_is_timed_three_times(rows: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_times, "time", Clock())
    network = datanas.build_network("resnet18", channels=2).eval()
    assert part_times.measure_parts(network, torch.zeros(1, 3, 16, 16), {}, {}).rounds == part_times.FEWEST
