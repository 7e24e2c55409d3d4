"""The schedule of a training whose number of epochs changes on the way."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import datanas
from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.engine.earlier_run import load_run_config
from datanas.engine.passes import Change, Passes
from datanas.runs.metrics import read_metrics


@st.composite
def passes(draw: st.DrawFn) -> Passes:
    found = Passes(draw(st.integers(1, 20)))
    after = 0
    for _ in range(draw(st.integers(0, 3))):
        if after + 1 >= found.total:
            break
        after = draw(st.integers(after + 1, found.total - 1))
        found = found.changed(after, draw(st.integers(after + 1, after + 20)))
    return found


@given(passes())
def test_the_schedule_is_followed_from_its_beginning_to_its_end(found: Passes) -> None:
    points = [found.at(epoch) for epoch in range(found.total + 1)]
    assert points[0] == 0
    assert points[-1] == pytest.approx(found.planned)
    assert all(before < after for before, after in itertools.pairwise(points))


@given(st.integers(1, 600), st.floats(0, 1))
def test_a_plan_that_stands_is_followed_bit_for_bit(planned: int, share: float) -> None:
    assert Passes(planned).at(planned * share) == planned * share


@given(passes(), st.data())
def test_a_change_leaves_what_is_done_as_it_was(found: Passes, data: st.DataObject) -> None:
    first = found.revised[-1][0] + 1 if found.revised else 1
    if first >= found.total:
        return
    after = data.draw(st.integers(first, found.total - 1))
    changed = found.changed(after, data.draw(st.integers(after + 1, after + 9)))
    assert [changed.at(epoch) for epoch in range(after + 1)] == [found.at(epoch) for epoch in range(after + 1)]


@pytest.mark.parametrize(
    "revised", [((0, 5, 3),), ((5, 5, 8),), ((2, 5, 2),), ((2, 4, 6),), ((3, 5, 8), (3, 8, 6)), ((3, 5, 8), (2, 8, 9))]
)
def test_changes_come_in_order_and_lie_ahead(revised: tuple[Change, ...]) -> None:
    with pytest.raises(ValueError, match=r"after epoch \d+ there cannot be"):
        Passes(5, revised)


def test_a_recipe_is_told_so_too() -> None:
    with pytest.raises(ConfigError, match="after epoch 9 there cannot be 4 in place of 5, of 5"):
        resolve({"train": {"epochs": 5, "revised": [[9, 5, 4]]}})


def test_changes_of_another_number_of_epochs_are_void() -> None:
    assert resolve({"train": {"epochs": 10, "revised": [[8, 10, 14]]}}).train.passes.total == 14
    assert resolve({"train": {"epochs": 100, "revised": [[8, 10, 14]]}}).train.passes == Passes(100)
    assert resolve({"train": {"epochs": 5, "revised": [[8, 10, 14]]}}).train.passes == Passes(5)


class _Once:
    """Changes the number of epochs once."""

    def __init__(self, after: int, epochs: int) -> None:
        self.after, self.epochs, self.asked = after, epochs, list[tuple[int, int]]()

    def begin(self) -> None:
        pass

    def revise(self, epoch: int, epochs: int) -> int:
        self.asked.append((epoch, epochs))
        return self.epochs if epoch == self.after else epochs


@pytest.mark.parametrize("epochs", [3, 6])
def test_a_training_that_is_changed_is_the_one_that_a_recipe_says(tiny_config: dict[str, Any], epochs: int) -> None:
    tiny_config["train"] |= {"epochs": 4, "auxiliary": False}
    policy = _Once(2, epochs)
    changed = datanas.train("gdas", tiny_config, quiet=True, policy=policy)
    assert policy.asked == [(1, 4), *((epoch, 4 if epoch == 2 else epochs) for epoch in range(2, epochs))]
    assert load_run_config(changed.path).train.revised == ((2, 4, epochs),)
    tiny_config["train"]["revised"] = [[2, 4, epochs]]
    tiny_config["run"]["name"] = "as-said"
    said = datanas.train("gdas", tiny_config, quiet=True)
    for own, other in zip(changed.network.parameters(), said.network.parameters(), strict=True):
        assert torch.equal(own, other)
    first, second = ([line["learning_rate"] for line in read_metrics(run.path)] for run in (changed, said))
    assert len(first) == epochs
    assert first == second


class Killed(Exception):
    """A test's own end of a run."""


class _Dies(_Once):
    def revise(self, epoch: int, epochs: int) -> int:
        if epoch == 2:
            raise Killed
        return super().revise(epoch, epochs)


def test_a_training_goes_on_with_the_change_that_was_made(tiny_config: dict[str, Any]) -> None:
    tiny_config["train"] |= {"epochs": 4, "auxiliary": False}
    with pytest.raises(Killed):
        datanas.train("gdas", tiny_config, quiet=True, policy=_Dies(1, 3))
    run = Path(tiny_config["run"]["root"]) / tiny_config["run"]["name"]
    tiny_config["run"]["name"] = "undisturbed"
    whole = datanas.train("gdas", tiny_config, quiet=True, policy=_Once(1, 3))
    policy = _Once(9, 9)
    gone_on = datanas.train(resume=run, quiet=True, policy=policy)
    assert policy.asked == [(2, 3)]
    for own, other in zip(whole.network.parameters(), gone_on.network.parameters(), strict=True):
        assert torch.equal(own, other)
