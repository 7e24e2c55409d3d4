"""The widest network within a bound of multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import datanas
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.config import Config, resolve
from datanas.engine.rebuild import network_for
from datanas.engine.setup import load_task
from datanas.engine.width import keep_width, on_meta, widest, with_width
from datanas.kernels.hardware import count_macs
from datanas.tasks.base import Task

CELL = datanas.architecture("darts_v2")


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.integers(0, 5), min_size=40, max_size=40),
    start=st.integers(1, 60),
    bound=st.integers(1, 120),
)
def test_the_search_finds_the_last_width_that_fits(steps: list[int], start: int, bound: int) -> None:
    def macs_of(width: int) -> int:
        return 1 + sum(steps[:width]) + max(0, width - len(steps)) * 4

    fitting = [width for width in range(1, 200) if macs_of(width) <= bound]
    if not fitting:
        with pytest.raises(ConfigError, match=f"of 1 channel, needs {macs_of(1)} multiply-adds, more than {bound}"):
            widest(macs_of, bound, start)
    else:
        assert widest(macs_of, bound, start) == fitting[-1]


def test_at_600_m_the_cell_of_darts_has_51_channels_on_imagenet() -> None:
    """14 cells. At 48 channels it has the published 529.9 M (tests/test_network.py)."""

    def macs_of(channels: int) -> int:
        with on_meta():
            network = datanas.build_network(CELL, num_classes=1000, channels=channels, cells=14, stem="imagenet")
            return count_macs(network, torch.empty(1, 3, 224, 224))

    assert macs_of(51) <= 600e6 < macs_of(52)


@pytest.fixture
def made(tiny_config: dict[str, Any]) -> Callable[..., tuple[Config, Task[Any]]]:
    def make(**train: Any) -> tuple[Config, Task[Any]]:
        config = resolve(merge(tiny_config, {"train": train}))
        return config, load_task(config, torch.device("cpu"))

    return make


def macs(config: Config, task: Task[Any], channels: int) -> int:
    config = config.model_copy(update={"train": config.train.model_copy(update={"channels": channels})})
    return count_macs(network_for(CELL, config, task), task.example())


def test_the_bound_decides_the_channels(made: Callable[..., tuple[Config, Task[Any]]]) -> None:
    config, task = made(max_macs="200k")
    found = dict(with_width(CELL, config, task).train)["channels"]
    assert macs(config, task, found) <= 200_000 < macs(config, task, found + 1)


def test_what_is_set_beside_it_plays_no_part(made: Callable[..., tuple[Config, Task[Any]]]) -> None:
    widths = {
        with_width(CELL, *made(max_macs="200k", channels=channels)).train.network_config.width for channels in (1, 30)
    }
    assert len(widths) == 1


def test_an_auxiliary_tower_costs_nothing(made: Callable[..., tuple[Config, Task[Any]]]) -> None:
    widths = {_width(with_width(CELL, *made(max_macs="200k", auxiliary=each))) for each in (0, 1)}
    assert len(widths) == 1


def test_without_a_bound_nothing_changes(made: Callable[..., tuple[Config, Task[Any]]]) -> None:
    config, task = made()
    assert with_width(CELL, config, task) is config


def test_no_random_number_is_used(made: Callable[..., tuple[Config, Task[Any]]]) -> None:
    config, task = made(max_macs="200k")
    state = torch.get_rng_state()
    with_width(CELL, config, task)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_that_goes_on_keeps_its_channels(made: Callable[..., tuple[Config, Task[Any]]]) -> None:
    before, task = made(max_macs="200k")
    before = with_width(CELL, before, task)
    now, _ = made(max_macs="200k")
    assert _width(keep_width(before, now)) == _width(before) != _width(now)
    other, _ = made(max_macs="300k")
    assert keep_width(before, other) is other
    unbound, _ = made()
    assert keep_width(before, unbound) is unbound


def test_a_bound_that_is_too_low_is_refused_before_anything_is_written(tiny_config: dict[str, Any]) -> None:
    config = merge(tiny_config, {"train": {"max_macs": 10}})
    with pytest.raises(ConfigError, match=r"train\.max_macs: the narrowest network, of 1 channel, needs [\d,]+ mult"):
        datanas.train(CELL, config, quiet=True)
    assert not Path(tiny_config["run"]["root"]).exists()


@pytest.mark.parametrize("value", ["0", 0, -5, "none", "M", "1.5X", "nan", "inf", True, "1e400M", []])
def test_what_is_no_number_of_multiply_adds_is_refused(tiny_config: dict[str, Any], value: object) -> None:
    with pytest.raises(ConfigError, match=r"train\.max_macs: must be a number of multiply-adds such as 600M"):
        resolve(merge(tiny_config, {"train": {"max_macs": value}}))


@pytest.mark.parametrize(
    ("value", "count"),
    [("600M", 600_000_000), ("1.2G", 1_200_000_000), ("500k", 500_000), (7e8, 700_000_000), (42, 42)],
)
def test_a_bound_is_read_with_its_unit(tiny_config: dict[str, Any], value: object, count: int) -> None:
    config = resolve(merge(tiny_config, {"train": {"max_macs": value}}))
    assert config.train.max_macs == count
    assert resolve(config.model_dump(mode="json")) == config


def _width(config: Config) -> int:
    return config.train.network_config.width
