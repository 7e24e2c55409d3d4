"""A dry run tells what a whole run would cost, and leaves nothing behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datanas.engine import dry_run
from datanas.engine.config import resolve
from datanas.engine.dry_run import estimate_search, estimate_train
from datanas.engine.search import SearchJob
from datanas.engine.train_job import TrainJob
from datanas.errors import DataError, NonFiniteError, OutOfMemoryError
from datanas.hardware import count_macs, count_parameters
from datanas.published import architecture
from datanas.tasks.classification import Classification

Make = Callable[..., dict[str, Any]]
CELL = architecture("darts_v2")


@pytest.fixture(params=["search", "train"])
def estimate(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], str]:
    if request.param == "search":
        return lambda config: estimate_search(resolve(config))
    return lambda config: estimate_train(resolve(config), CELL)


def test_it_names_every_cost(config: Make, estimate: Callable[[dict[str, Any]], str]) -> None:
    text = estimate(config())
    for wanted in ("parameters", "multiply-adds", "memory", "one step", "whole run", "GiB", "M "):
        assert wanted in text
    assert re.search(r"one step +\d+\.\d+ s", text)
    assert re.search(r"about \d+:\d\d:\d\d h", text)


def test_it_writes_nothing(
    config: Make, estimate: Callable[[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = config()
    before = sorted(tmp_path.rglob("*"))
    estimate(settings)
    assert sorted(tmp_path.rglob("*")) == before


def test_it_counts_the_steps_of_the_whole_run(config: Make, estimate: Callable[[dict[str, Any]], str]) -> None:
    over = {"search": {"epochs": 20, "pretrain_epochs": 5}, "train": {"epochs": 25}}
    assert "75 steps in 25 epochs" in estimate(config(**over))


def test_a_search_s_numbers_are_those_of_its_supernet(config: Make, search_job: Callable[..., SearchJob]) -> None:
    text, job = estimate_search(resolve(config())), search_job()
    assert f"{count_parameters(job.supernet):,} parameters" in text


def test_a_training_s_numbers_are_those_of_its_network(config: Make, train_job: Callable[..., TrainJob]) -> None:
    text, job = estimate_train(resolve(config()), CELL), train_job()
    assert f"{count_parameters(job.network):,} parameters" in text
    assert f"{count_macs(job.network, torch.zeros(1, 3, 8, 8)) / 1e6:,.1f} M an image" in text


@pytest.mark.parametrize(("every", "times"), [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_measurements_are_counted_as_often_as_they_come(config: Make, every: int, times: int) -> None:
    settings = resolve(config(search={"epochs": 5, "gap": {"every": every}}))
    assert f", {times} times" in estimate_search(settings)


def test_the_whole_time_is_steps_and_measurements(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "measure_job", lambda job, device: (2.0, 100.0))
    settings = resolve(config(search={"epochs": 1200}))
    assert "3,600 steps in 1200 epochs, about 35:20:00 h" in estimate_search(settings)


def test_alpha_steps_count_by_their_share(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alpha step of 10 s before every fifth weight step of 1 s: 3 s a step."""
    now = [0.0]

    def lasts(seconds: float) -> Callable[..., float]:
        def step(*_: object, **__: object) -> float:
            now[0] += seconds
            return 0.0

        return step

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(SearchJob, "_alpha_step", lasts(10.0))
    monkeypatch.setattr(SearchJob, "_weight_step", lasts(1.0))
    assert "one step            3.000 s" in estimate_search(resolve(config(search={"steps": "5:1", "epochs": 20})))


def test_what_would_stop_the_run_stops_the_dry_run(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        estimate_search(resolve(config(data={"root": "gone.npz"})))
    monkeypatch.setattr(SearchJob, "step", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemoryError, match="Try a smaller batch_size"):
        estimate_search(resolve(config()))
    monkeypatch.setattr(SearchJob, "step", lambda *_: (_ for _ in ()).throw(NonFiniteError("loss")))
    with pytest.raises(NonFiniteError):
        estimate_search(resolve(config()))


def test_costs_are_told_by_what_an_example_is(
    config: Make, estimate: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert " an image" in estimate(config())
    monkeypatch.setattr(Classification, "unit", "word")
    assert " M a word" in estimate(config()).replace("M multiply-adds", "M")
