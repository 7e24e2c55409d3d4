"""A bound on latency is kept by the clock and not only by a table: what misses it is passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datanas.budgets.latency import LatencyTable
from datanas.core.processes import Processes
from datanas.core.settings import merge
from datanas.engine import timed_latency
from datanas.engine.budget import Budget, around
from datanas.engine.calibrate import calibrate
from datanas.engine.config import Config, resolve
from datanas.engine.derive import derive
from datanas.engine.search import SearchJob, search
from datanas.engine.setup import build_space, load_task
from datanas.engine.timed_latency import latency_clock, made_up
from datanas.engine.within_budget import TIMED, derive_within

CPU = torch.device("cpu")
Make = Callable[..., dict[str, Any]]
SMALL = {
    "space": {"cells": 3, "nodes": 5, "primitives": ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]},
    "train": {"auxiliary": False, "channels": 2, "cells": 3},
    "search": {"epochs": 1},
    "sampler": {"init_std": 1.0},
    "threads": 1,
}


@pytest.fixture
def table(config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of this machine, really measured, if only a little."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datanas.engine.calibrate.BLOCKS", 1)
    torch.set_num_threads(1)
    calibrate(resolve(config(**SMALL)), fitted=4, held_out=2, rounds=2).save(tmp_path / "table.json")
    return tmp_path / "table.json"


def bounded(table: Path, **more: Any) -> dict[str, Any]:
    return merge(SMALL, {"budget": {"latency": "10s", "latency_table": str(table), **more}})


def job_of(config: Make, over: dict[str, Any]) -> tuple[SearchJob, Budget]:
    settings: Config = resolve(config(**over))
    task = load_task(settings, CPU)
    return SearchJob(settings, task, CPU), Budget(settings, around(task))


def test_what_misses_the_bound_by_the_clock_is_passed_over(config: Make, table: Path) -> None:
    job, budget = job_of(config, bounded(table))
    ranking = derive_within(job.sampler, build_space(job.config), budget, 3).ranking
    times = {ranking[0][0]: 11_000.0, ranking[1][0]: 12_000.0, ranking[2][0]: 9_000.0}
    kept = derive_within(job.sampler, build_space(job.config), budget, clock=lambda each: times[each])
    assert kept.architecture == ranking[2][0]
    assert kept.architecture.posterior is not None
    assert kept.architecture.posterior["over_budget"] == 2
    assert kept.architecture.posterior["timed_ms"] == 9_000.0
    assert kept.architecture.posterior["log_prob"] == pytest.approx(ranking[2][1])


def test_where_all_miss_it_the_best_by_the_table_is_kept_with_a_warning(config: Make, table: Path) -> None:
    job, budget = job_of(config, bounded(table))
    asked: list[object] = []
    with pytest.warns(UserWarning, match=r"budget\.latency: no architecture .* the best takes 1.1e\+04 ms here"):
        kept = derive_within(
            job.sampler, build_space(job.config), budget, clock=lambda each: asked.append(each) or 11_000.0
        )
    assert kept.architecture == derive_within(job.sampler, build_space(job.config), budget).architecture
    assert len(asked) == TIMED


def test_a_search_and_a_derivation_note_the_time_of_what_they_keep(config: Make, table: Path) -> None:
    found = search(config(**bounded(table)), quiet=True)
    assert found.architecture.posterior is not None
    assert 0 < found.architecture.posterior["timed_ms"] < 10_000
    derived = derive(found.path)
    assert derived.architecture.posterior is not None
    assert 0 < derived.architecture.posterior["timed_ms"] < 10_000
    assert "timed_ms" not in (derive(found.path, settings=[("budget.timed", False)]).architecture.posterior or {})


def test_a_table_of_another_machine_or_of_none_is_not_compared_with_this_one(
    config: Make, table: Path, tmp_path: Path
) -> None:
    made = LatencyTable.load(table)
    other = LatencyTable(made.times, {**(made.machine or {}), "device": "another"}, made.network, made.fit)
    other.save(tmp_path / "other.json")
    rows = tmp_path / "rows.csv"
    ops = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")
    rows.write_text("op,milliseconds\n" + "".join(f"{op},1\n" for op in ops))
    clocks = [latency_clock(job_of(config, bounded(each))[1], lambda: CPU) for each in (tmp_path / "other.json", rows)]
    assert clocks == [None, None]
    assert latency_clock(job_of(config, bounded(table))[1], lambda: CPU) is not None
    assert latency_clock(None, lambda: CPU) is None


def test_the_clock_times_the_network_that_training_would_build(
    config: Make, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, budget = job_of(config, bounded(table))
    seen: list[torch.Size] = []

    def once(calls: Any, rounds: int, **options: Any) -> Any:
        seen.extend(call().shape for call in calls)
        return np.array([[7.0]] * (rounds - 1) + [[1.0]])  # one that is lucky does not count

    monkeypatch.setattr(timed_latency, "interleaved_ms", once)
    clock = latency_clock(budget, lambda: CPU)
    assert clock is not None
    assert clock(job.sampler.derive().architecture) == 7.0
    assert seen == [torch.Size((1, job.task.num_classes))]


def test_one_process_times_for_all(config: Make, table: Path) -> None:
    class Second(Processes):
        def first(self, work: Callable[[], bytes]) -> bytes:
            return b"7.5"

    job, budget = job_of(config, bounded(table))
    clock = latency_clock(budget, lambda: CPU, Second())
    assert clock is not None
    assert clock(job.sampler.derive().architecture) == 7.5


def test_an_example_is_made_up_in_its_shape_and_kind() -> None:
    pixels, words = made_up(
        (torch.empty(1, 3, 4, 5, device="meta"), torch.empty(6, 1, dtype=torch.long, device="meta")), CPU
    )
    assert pixels.shape == (1, 3, 4, 5)
    assert pixels.std() > 0.5
    assert words.tolist() == [[0]] * 6
