"""Jobs on tiny data, runs that a signal stops, and the comparison of what runs leave behind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from datanas.core.settings import merge
from datanas.engine.config import resolve
from datanas.engine.loop import Job
from datanas.engine.search import SearchJob, search
from datanas.engine.search_result import SearchResult
from datanas.engine.setup import load_task
from datanas.engine.train import TrainJob
from datanas.lookup import architecture
from datanas.runs.checkpoint import load_checkpoint
from datanas.runs.metrics import read_metrics

CPU = torch.device("cpu")
SMALL = {
    "space": {"cells": 3, "primitives": ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]},
    "train": {"cells": 3},
}
"""Three cells, for of two both are reduction cells."""


@pytest.fixture(scope="session")
def finished(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A search as `config()` describes it, from end to end; only to be read."""
    return search(merge(make_config(tmp_path_factory.mktemp("finished")), SMALL), quiet=True)


@pytest.fixture
def config(tiny_config: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A whole tiny configuration, with these values laid over it and a run folder of its own."""
    names = count()

    def make(**over: Any) -> dict[str, Any]:
        own = {"run": {"root": str(tmp_path / "runs"), "name": f"run{next(names)}"}}
        return merge(merge(tiny_config, SMALL | own), over)

    return make


@pytest.fixture
def search_job(config: Callable[..., dict[str, Any]]) -> Callable[..., SearchJob]:
    """A search that has not begun."""

    def make(**over: Any) -> SearchJob:
        settings = resolve(config(**over))
        return SearchJob(settings, load_task(settings, CPU), CPU)

    return make


@pytest.fixture
def train_job(config: Callable[..., dict[str, Any]]) -> Callable[..., TrainJob]:
    """A training of DARTS' cell that has not begun."""

    def make(**over: Any) -> TrainJob:
        settings = resolve(config(**over))
        return TrainJob(settings, architecture("darts_v2"), load_task(settings, CPU), CPU)

    return make


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Job], int], None]:
    """Let SIGINT come once, while the n-th step from now is made."""

    def arrange(kind: type[Job], steps: int) -> None:
        original, made = kind.step, count(1)

        def step(self: Job, number: int) -> dict[str, float]:
            figures = original(self, number)
            if next(made) == steps:
                signal.raise_signal(signal.SIGINT)
            return figures

        monkeypatch.setattr(kind, "step", step)

    return arrange


@pytest.fixture
def final_state() -> Callable[[Path], dict[str, torch.Tensor]]:
    """All numbers of a run's last checkpoint by their place in it."""

    def read(path: Path) -> dict[str, torch.Tensor]:
        return dict(_numbers(load_checkpoint(path)[1], ""))

    return read


@pytest.fixture
def figures() -> Callable[[Path], list[dict[str, Any]]]:
    """The lines of a run's metrics without the time of the day."""

    def read(path: Path) -> list[dict[str, Any]]:
        return [{name: value for name, value in line.items() if name != "time"} for line in read_metrics(path)]

    return read


@pytest.fixture
def same() -> Callable[[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], bool]:
    """Whether two states agree bit for bit."""

    def compare(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
        return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())

    return compare


@pytest.fixture
def copied() -> Callable[[torch.nn.Module], dict[str, torch.Tensor]]:
    """A module's state as it is now."""

    def copy(module: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in module.state_dict().items()}

    return copy


def _numbers(state: object, place: str) -> list[tuple[str, torch.Tensor]]:
    if isinstance(state, Mapping):
        return [pair for name, value in state.items() for pair in _numbers(value, f"{place}.{name}")]
    if isinstance(state, list | tuple):
        return [pair for index, value in enumerate(state) for pair in _numbers(value, f"{place}.{index}")]
    if isinstance(state, torch.Tensor):
        return [(place, state)]
    return [(place, torch.tensor(state, dtype=torch.double))] if isinstance(state, int | float) else []
