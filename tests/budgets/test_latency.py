"""Predictions add up what runs, the additive form agrees with them, and what a table is not of is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datanas import architecture, build_network
from datanas.budgets.base import NetworkSize
from datanas.budgets.calibrated import CalibratedLatency
from datanas.budgets.config import BudgetConfig
from datanas.budgets.latency import HeldOut, LatencyFit, LatencyTable
from datanas.budgets.models import models_of
from datanas.codes.architecture import Architecture
from datanas.core.errors import DataError
from datanas.core.settings import validate
from datanas.samplers.derivation import assemble
from datanas.samplers.uniform import random_codes
from datanas.spaces import spaces
from datanas.spaces.base import Space
from datanas.spaces.workload import Workload

FIT = LatencyFit(constant_ms=2.0, per_cell_ms=0.5, overlap=0.75)
X = torch.zeros(1, 3, 16, 16)
STEM = build_network("darts_v2", channels=4, cells=5).stem.eval()


FIVE_CELLS = spaces["conv_cell"].Network.model_validate({"cells": 5})


@pytest.fixture
def space() -> Space:
    kind: Any = spaces["conv_cell"]
    made: Space = kind(validate(kind.Config, {"name": "conv_cell"}, "space"))
    return made.at_size(4, 5)


@pytest.fixture
def table(space: Space) -> LatencyTable:
    """Times that are all different."""
    loads = sorted({each for cell in space.work(STEM, X) for row in cell.table for each in row if each is not None})
    return LatencyTable(
        {each: 0.1 + 0.01 * index for index, each in enumerate(loads)}, {"device": "a"}, {"cells": 5}, FIT
    )


def by_hand(table: LatencyTable, space: Space, chosen: Architecture) -> float:
    """The formula, for a network all of which is live."""
    total = 0.0
    for cell in space.work(STEM, X):
        group, own = space.groups()[cell.group], chosen.cells[cell.group]
        for primitive, source, target in own.operations():
            load = cell.table[group.edges.index((source, target))][group.primitives.index(primitive)]
            assert load is not None
            total += table.times[load]
    return 2.0 + 0.5 * 5 + 0.75 * total


@pytest.mark.parametrize("name", ["darts_v1", "data_m4", "data_m7"])
def test_a_prediction_adds_up_what_runs(name: str, space: Space, table: LatencyTable) -> None:
    chosen = architecture(name)
    assert table.predict(chosen, space, STEM, X) == pytest.approx(by_hand(table, space, chosen), rel=1e-12)


def test_the_additive_form_is_the_prediction(space: Space, table: LatencyTable) -> None:
    additive = table.additive(space, STEM, X)
    groups, generator = space.groups(), torch.Generator().manual_seed(0)
    live = 0
    for _ in range(30):
        chosen = assemble(random_codes(groups, generator), groups, space="conv_cell")
        total = additive.constant + sum((additive.tables[name] * code).sum() for name, code in chosen.code.items())
        predicted = table.predict(chosen, space, STEM, X)
        if spaces["conv_cell"].count_live(chosen, FIVE_CELLS).text() == "":
            live += 1
            assert total == pytest.approx(predicted, rel=1e-12)
        assert total >= predicted - 1e-9
    assert live > 0
    assert (additive.tables["normal"][:, 0] == 0).all()  # none
    assert (additive.tables["normal"][:, 1:] > 0).all()


def test_what_is_dead_takes_no_time(space: Space, table: LatencyTable) -> None:
    whole = architecture("darts_v2")
    cell = whole.cells["normal"]
    code = np.array(cell.code)
    code[[edge for edge, (_, target) in enumerate(cell.edges) if target == 5]] = 0
    small = replace(whole, cells={**whole.cells, "normal": replace(cell, code=code, outputs=(2, 3, 4))})
    code[cell.edges.index((2, 5))] = 1  # leads to a node that nobody reads
    dead = replace(whole, cells={**whole.cells, "normal": replace(cell, code=code, outputs=(2, 3, 4))})
    found = [table.predict(each, space, STEM, X) for each in (whole, small, dead)]
    assert found[2] == found[1] < found[0]


def test_an_operation_that_is_there_twice_counts_twice(space: Space, table: LatencyTable) -> None:
    once = architecture("darts_v2")
    cell = once.cells["normal"]
    twice = replace(once, cells={**once.cells, "normal": replace(cell, code=2 * cell.code)})
    more = table.sum_of(twice, space, space.work(STEM, X))[0] - table.sum_of(once, space, space.work(STEM, X))[0]
    reduce = replace(once, cells={**once.cells, "normal": replace(cell, code=3 * cell.code)})
    assert table.sum_of(reduce, space, space.work(STEM, X))[0] - table.sum_of(once, space, space.work(STEM, X))[0] == (
        pytest.approx(2 * more)
    )


def test_a_fit_finds_what_the_times_were_made_of() -> None:
    rng = np.random.default_rng(0)
    sums, cells = rng.uniform(1, 9, 30), rng.integers(3, 6, 30)
    found = LatencyFit.of(sums.tolist(), cells.tolist(), [FIT(s, c) for s, c in zip(sums, cells, strict=True)])
    assert vars(found) == pytest.approx(vars(FIT), rel=1e-6)


def test_a_fit_of_networks_of_as_many_cells_leaves_them_to_the_constant() -> None:
    found = LatencyFit.of([1.0, 2.0, 3.0], [5, 5, 5], [FIT(s, 5) for s in (1.0, 2.0, 3.0)])
    assert vars(found) == pytest.approx({"constant_ms": 4.5, "per_cell_ms": 0.0, "overlap": 0.75})


def test_no_coefficient_is_negative() -> None:
    found = LatencyFit.of([1.0, 2.0, 3.0, 4.0], [3, 4, 3, 4], [5.0, 4.0, 3.0, 2.0])
    assert min(vars(found).values()) >= 0


def test_the_error_is_relative_and_the_correlation_one_of_ranks() -> None:
    found = HeldOut((1.0, 2.0, 4.0), (1.1, 1.8, 4.0), 0.02)
    assert found.error == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert found.rank_correlation == pytest.approx(1.0)
    assert math.isnan(HeldOut((1.0, 1.0), (1.0, 2.0), 0.0).rank_correlation)


def test_a_table_comes_back_from_its_file(table: LatencyTable, tmp_path: Path) -> None:
    whole = replace(table, held_out=HeldOut((1.0, 2.0), (1.5, 2.5), 0.01))
    for each in (table, whole):
        each.save(tmp_path / "table.json")
        found = LatencyTable.load(tmp_path / "table.json")
        assert found == each
        assert found.source == str(tmp_path / "table.json")
        assert "operations     35 timed" in str(found)
    assert "error          on 2 further networks of 1.00 to 2.00 ms: 37.5 % on average" in str(whole)


def test_a_table_of_another_machine_or_network_is_refused(table: LatencyTable) -> None:
    table.require(machine={"device": "a"}, network={"cells": 5})
    with pytest.raises(DataError, match=r"of another machine: device 'a', not 'b'; make one here"):
        table.require(machine={"device": "b"})
    with pytest.raises(DataError, match="of another network: cells 5, not 8"):
        table.require(network={"cells": 8})
    replace(table, machine=None, network=None).require(machine={"device": "b"}, network={"cells": 8})


def test_what_a_table_lacks_is_named(space: Space, table: LatencyTable) -> None:
    first = min(table.times)
    times = {each: time for each, time in table.times.items() if each != first}
    lacking = replace(table, times=times, source="mine.csv")
    with pytest.raises(
        DataError,
        match=r"mine\.csv: lacks 1 of the needed latencies, such as avg_pool_3x3 of 4 channels at 16x16: of avg",
    ):
        lacking.additive(space, STEM, X)
    none = {each: time for each, time in times.items() if each.primitive != "sep_conv_3x3"}
    with pytest.raises(DataError, match="no operation 'sep_conv_3x3' is in it; did you mean 'sep_conv_5x5'"):
        replace(table, times=none).predict(architecture("darts_v2"), space, STEM, X)
    with pytest.raises(
        DataError, match=r"lacks \w+ on the edge \(\d, 6\), which the space conv_cell as it is set does not"
    ):
        table.predict(architecture("nasnet_a"), space, STEM, X)


@pytest.mark.parametrize("time", [-1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(time: float) -> None:
    with pytest.raises(DataError, match="tanh of 4 channels: a latency must be finite and at least 0"):
        LatencyTable({Workload("tanh", 4): time})


def test_a_fit_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match=r"fit\.overlap: must be finite and at least 0"):
        LatencyTable({Workload("tanh", 4): 1.0}, fit=LatencyFit(overlap=math.nan))


def test_a_calibrated_table_bounds_a_latency(table: LatencyTable, space: Space, tmp_path: Path) -> None:
    table.save(tmp_path / "table.json")
    budget = validate(BudgetConfig, {"latency": "5ms", "latency_table": tmp_path / "table.json"}, "budget")
    model = models_of(budget)["latency"]
    assert isinstance(model, CalibratedLatency)
    assert model.device == "a"
    size = NetworkSize(space, space.groups(), STEM, X, lambda _: STEM)
    found, expected = model.additive(size), table.additive(space, STEM, X)
    assert found.constant == expected.constant
    assert all(np.array_equal(found.tables[name], each) for name, each in expected.tables.items())
