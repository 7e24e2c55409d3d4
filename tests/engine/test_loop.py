"""When a run saves, by a clock that the test moves, and in which order it writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from datanas.engine import loop, run
from datanas.engine.loop import WORK, EpochReport, Loop, _SaveClock, _Sums
from datanas.engine.search import search
from datanas.engine.train import TrainJob, train
from datanas.lookup import architecture
from datanas.runs import checkpoint
from datanas.runs.checkpoint import load_checkpoint
from datanas.runs.metrics import Metrics


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    return clock


def save(clock: _SaveClock, time: Clock, seconds: float) -> None:
    with clock.saving():
        time.now += seconds


def test_by_default_saving_takes_less_than_two_per_cent_of_the_time(time: Clock) -> None:
    clock, saved, started = _SaveClock(None, None), 0.0, time.now
    for epoch in range(1, 400):
        time.now += 3.0
        if clock.is_due(epoch):
            save(clock, time, 2.0)
            saved += 2.0
    assert saved >= 8.0
    assert saved / (time.now - started) < 0.02
    assert 1 / WORK < 0.02


def test_by_default_every_long_epoch_is_saved(time: Clock) -> None:
    clock = _SaveClock(None, None)
    for epoch in range(1, 4):
        time.now += 60.0
        assert clock.is_due(epoch)
        save(clock, time, 0.9)


def test_epochs_that_are_asked_for_are_saved_whatever_it_costs(time: Clock) -> None:
    clock = _SaveClock(2, None)
    due = []
    for epoch in range(1, 7):
        time.now += 0.1
        if clock.is_due(epoch):
            due.append(epoch)
            save(clock, time, 5.0)
    assert due == [2, 4, 6]


def test_in_the_middle_of_an_epoch_only_time_counts(time: Clock) -> None:
    clock = _SaveClock(None, 10.0)
    assert not clock.is_due(None)
    time.now += 599.0
    assert not clock.is_due(None)
    time.now += 2.0
    assert clock.is_due(None)
    save(clock, time, 1.0)
    assert not clock.is_due(None)


def test_never_by_time_where_that_is_asked_for(time: Clock) -> None:
    clock = _SaveClock(5, None)
    time.now += 1e9
    assert not clock.is_due(None)
    assert not clock.is_due(4)


def test_what_was_logged_is_on_the_device_before_the_checkpoint_that_counts_on_it(
    config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    originals = {"log": Metrics.log, "sync": Metrics.sync}
    for name, original in originals.items():

        def noted(self: Metrics, *given: Any, name: str = name, original: Any = original, **more: Any) -> None:
            done.append(name)
            original(self, *given, **more)

        monkeypatch.setattr(Metrics, name, noted)
    save = checkpoint.save_checkpoint
    monkeypatch.setattr(run, "save_checkpoint", lambda *given: (done.append("save"), save(*given)))
    search(config(), quiet=True)
    assert done == ["log", "sync", "save"] * 2


@pytest.fixture
def made_loop() -> Callable[..., Loop]:
    """Of a job that counts how often its state is asked for, in a process other than the first."""

    def make(**of_run: Any) -> Loop:
        states: list[int] = []
        job = SimpleNamespace(
            length=6, epochs=3, steps_per_epoch=2, states=states, state=lambda: states.append(1) or {}
        )
        run = SimpleNamespace(saved=None, is_first=False, seconds=0.0, **of_run)
        return Loop(job, run, quiet=True)  # type: ignore[arg-type]

    return make


def test_every_process_asks_for_the_state_that_the_first_saves(made_loop: Callable[..., Loop]) -> None:
    """A task may gather its own from all of them."""
    made = made_loop()
    made._save(3)
    assert made._job.states == [1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("found", "agreed"),
    [([[0, 0], [0, 1]], (0, False)), ([[0, 1], [0, 0]], (0, True)), ([[0, 0], [15, 0]], (15, False))],
)
def test_all_heed_a_signal_to_any_and_save_when_the_first_does(
    made_loop: Callable[..., Loop], found: list[list[int]], agreed: tuple[int, bool]
) -> None:
    processes = SimpleNamespace(gather=lambda own: torch.tensor(found))
    assert made_loop(processes=processes)._agreed(None, False) == agreed


def test_a_score_that_is_no_number_is_never_the_best(
    config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([math.nan, 0.2, 0.1])
    monkeypatch.setattr(TrainJob, "end_epoch", lambda *given: EpochReport({}, "", score=next(scores)))
    found = train(architecture("darts_v2"), config(train={"epochs": 3}), quiet=True)
    step, saved = load_checkpoint(found.path)
    assert saved["best"] == [0.2, step * 2 // 3]


def test_a_warning_is_said_once_though_its_figures_change(made_loop: Callable[..., Loop]) -> None:
    said: list[str] = []
    made = made_loop()
    made._progress = SimpleNamespace(message=said.append)  # type: ignore[assignment]
    for warnings in (["P is flat (entropy 0.998)"], ["P is flat (entropy 0.99)", "identities only"], []):
        made.report(EpochReport({}, "", warnings=warnings))
    assert [line for line in said if "warning" in line] == [
        "warning: P is flat (entropy 0.998)",
        "warning: identities only",
    ]


def test_a_figure_is_averaged_over_the_steps_that_have_it() -> None:
    """In the epoch in which alpha starts only its later steps have an alpha loss."""
    sums = _Sums()
    for figures in ({"loss": 4.0}, {"loss": 2.0, "alpha loss": 3.0}, {"loss": 0.0, "alpha loss": 5.0}):
        sums.add(figures)
    assert sums.means() == {"loss": 2.0, "alpha loss": 4.0}
    again = _Sums.from_state({"sums": sums.totals, "counts": sums.counts})
    again.add({"loss": 6.0})
    assert again.means() == {"loss": 3.0, "alpha loss": 4.0}


def test_the_sums_of_an_older_checkpoint_are_read() -> None:
    assert _Sums.from_state({"sums": {"loss": 6.0}, "count": 3}).means() == {"loss": 2.0}
