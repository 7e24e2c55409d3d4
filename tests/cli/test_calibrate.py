"""`datanas calibrate`: what it prints and writes, and what it refuses without leaving anything."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datanas.budgets.latency import LatencyTable
from datanas.engine import calibrate as calibration

FEW = ("--fitted", 4, "--held-out", 2, "--rounds", 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No clock is read, and the cache is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        calibration, "interleaved_ms", lambda calls, rounds, **_: np.array([np.arange(1.0, len(calls) + 1)] * rounds)
    )
    return tmp_path / "cache"


def test_it_prints_what_it_found_and_writes_it(tmp_path: Path, settings: list[str], cli: Callable[..., Any]) -> None:
    files = {name: tmp_path / f"found.{name}" for name in ("json", "csv", "png")}
    wanted = ["-o", files["json"], "--csv", files["csv"], "--plot", files["png"]]
    outcome = cli("calibrate", *settings, *FEW, *wanted, "--threads", 1, "--quiet")
    assert outcome.code == 0, outcome.err
    for word in ("machine ", "threads 1", "network ", "space conv_cell", "fit ", "error ", "rank correlation"):
        assert word in outcome.out
    table = LatencyTable.load(files["json"])
    assert table.held_out is not None
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [float(row["measured_ms"]) for row in rows] == pytest.approx(table.held_out.measured_ms, rel=1e-5)
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("code", "message", "options"),
    [
        (2, "--fitted: must be at least 4, got 1", ["--fitted", 1]),
        (2, "--plot: found.gif: a picture's name must end in .svg or .png", ["--plot", "found.gif"]),
        (2, "train.max_macs: makes every network as wide as it may be", ["--train.max_macs", "1M"]),
        (2, "space.cell: unknown", ["--space.cell", 3]),
        (8, "no such", ["--data.root", "nowhere"]),
    ],
)
def test_bad_input_leaves_nothing(
    code: int, message: str, options: list[Any], settings: list[str], cache: Path, tmp_path: Path, cli: Any
) -> None:
    outcome = cli("calibrate", *settings, *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert not cache.exists()
