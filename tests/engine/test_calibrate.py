"""A calibration finds how times add up, keeps its table for this machine alone, and a bound gets that table only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datanas.budgets.latency import LatencyTable
from datanas.codes.liveness import lets_through
from datanas.core.errors import ConfigError, DataError
from datanas.engine import calibrate as calibration
from datanas.engine.calibrate import Subject, calibrate, varied_cells
from datanas.engine.config import Config, resolve
from datanas.engine.setup import build_space
from datanas.network import Network
from datanas.spaces import spaces

CPU = torch.device("cpu")
OVER = {"train": {"auxiliary": False, "channels": 2, "cells": 3}, "space": {"nodes": 5}, "threads": 1}


@pytest.fixture
def settings(config: Callable[..., dict[str, Any]]) -> Config:
    return resolve(config(**OVER))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Times that are made up: a probe's from its place, a network's 1 ms + half the sum of what it runs.

    Returns the number of calls of each measurement.
    """
    measured: list[int] = []

    def times(calls: Sequence[Any], rounds: int, **options: Any) -> np.ndarray:
        networks = [call.args[0] for call in calls if isinstance(getattr(call, "args", (0,))[0], Network)]
        probes = len(calls) - len(networks)
        with torch.inference_mode():
            assert all(isinstance(call(), torch.Tensor) for call in calls[probes:])
        measured.append(len(calls))
        found = [0.1 + 0.01 * index for index in range(probes)]
        found += [1.0 + 0.5 * total for total in sums.pop()]
        return np.array([found] * rounds)

    sums: list[list[float]] = []
    table_of = LatencyTable.sum_of

    def varied(space: Any, n: int, generator: torch.Generator) -> Any:
        cells = varied_cells(space, n, generator)
        work = current[0].work
        loads = current[0].workloads
        table = LatencyTable({each: 0.1 + 0.01 * index for index, each in enumerate(loads)})
        sums.append([table_of(table, each, space, work)[0] for each in cells])
        return cells

    current: list[Subject] = []
    subject_of = Subject.of

    def remembered(*arguments: Any, **options: Any) -> Subject:
        current[:] = [subject_of(*arguments, **options)]
        return current[0]

    monkeypatch.setattr(calibration, "interleaved_ms", times)
    monkeypatch.setattr(calibration, "varied_cells", varied)
    monkeypatch.setattr(calibration.Subject, "of", remembered)
    return measured


def test_the_fit_is_that_of_the_times_and_holds_for_others(settings: Config, cache: Path, clock: list[int]) -> None:
    table = calibrate(settings, fitted=8, held_out=4)
    assert table.fit.overlap == pytest.approx(0.5)
    assert table.fit.constant_ms + 3 * table.fit.per_cell_ms == pytest.approx(1.0)
    assert table.held_out is not None
    assert len(table.held_out.measured_ms) == 4
    assert table.held_out.error == pytest.approx(0, abs=1e-9)
    assert table.held_out.rank_correlation == pytest.approx(1)
    assert clock == [len(table.times) + 12]
    assert table.network is not None
    assert (table.network["channels"], table.network["cells"], table.network["height"]) == (2, 3, 8)
    assert table.machine is not None
    assert (table.machine["threads"], table.machine["torch"]) == (1, torch.__version__)


def test_a_table_is_measured_once_a_machine(
    settings: Config, cache: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate(settings, fitted=4, held_out=2)
    assert Path(first.source).is_relative_to(cache / "datanas" / "latency")
    assert calibrate(settings, fitted=4, held_out=2) == first
    assert len(clock) == 1
    calibrate(settings, fitted=4, held_out=2, again=True)
    assert len(clock) == 2
    calibrate(settings, fitted=4, held_out=2, batch=3)
    assert len(clock) == 3
    Path(first.source).write_text("damaged")
    assert calibrate(settings, fitted=4, held_out=2) == first
    assert len(clock) == 4
    monkeypatch.setattr(torch, "__version__", "0.0")
    calibrate(settings, fitted=4, held_out=2)
    assert len(clock) == 5


def test_a_real_measurement_is_of_the_right_kind(
    settings: Config, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "BLOCKS", 1)
    seen: list[int] = []
    table = calibrate(settings, fitted=4, held_out=2, rounds=2, on_block=lambda rounds, error: seen.append(rounds))
    assert seen == [2]
    assert min(table.times.values()) > 0
    assert table.held_out is not None
    assert min(table.held_out.measured_ms) > max(table.times.values())


def test_an_operation_s_time_is_that_of_one_of_the_runs_of_its_probe(
    settings: Config, cache: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = calibrate(settings, fitted=4, held_out=2).times
    monkeypatch.setattr(spaces["conv_cell"], "runs_of_probe", 2)
    twice = calibrate(settings, fitted=4, held_out=2, again=True).times
    assert [time / 2 for time in once.values()] == pytest.approx(list(twice.values()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fitted": 3}, "--fitted: must be at least 4, got 3"),
        ({"held_out": 1}, "--held-out: must be at least 2, got 1"),
        ({"rounds": 1}, "--rounds: must be at least 2, got 1"),
        ({"batch": 0}, "--batch: must be at least 1, got 0"),
    ],
)
def test_too_little_is_refused(settings: Config, options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        calibrate(settings, **options)  # type: ignore[arg-type]


def test_networks_of_no_one_width_are_refused(config: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match=r"train\.max_macs: makes every network as wide as it may be"):
        calibrate(resolve(config(**{**OVER, "train": {"max_macs": "1M", "cells": 3}})))


def test_random_networks_are_different_live_sparse_and_dense(settings: Config) -> None:
    space = build_space(settings)
    found = varied_cells(space, 20, torch.Generator().manual_seed(0))
    assert len(set(found)) == 20
    assert all(lets_through(cell) for each in found for cell in each.cells.values())
    counts = {sum(int(code.sum()) for code in each.code.values()) for each in found}
    assert min(counts) < 8 < max(counts)


def test_a_space_of_too_few_architectures_is_refused(config: Callable[..., dict[str, Any]]) -> None:
    space = build_space(resolve(config(space={"nodes": 4, "primitives": ["none", "skip_connect"]})))
    with pytest.raises(DataError, match="too few architectures: 20 are wanted, 9 were found"):
        varied_cells(space, 20, torch.Generator().manual_seed(0))
