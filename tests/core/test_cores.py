"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datanas.core import cores


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    return tmp_path / "cpu.max"


def test_without_a_quota_the_affinity_counts() -> None:
    assert cores.usable_cores() == 8


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("x", 8)]
)
def test_a_containers_quota_bounds_them(eight: Path, quota: str, expected: int) -> None:
    eight.write_text(quota)
    assert cores.usable_cores() == expected
