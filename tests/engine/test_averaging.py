"""Averaging of the weights from the epoch on that is worse than earlier ones, and scores of which lower is better."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import perplexing
from tests.perplexing import Perplexing
from torch import Tensor

from datanas.core.errors import Interrupted
from datanas.engine import alpha_step, hypergradient
from datanas.engine.config import resolve
from datanas.engine.evaluation import NETWORK_FILE, evaluate, evaluate_parts
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_task
from datanas.engine.train import TrainJob, train
from datanas.engine.train_result import TrainResult
from datanas.lookup import architecture
from datanas.runs.checkpoint import load_checkpoint

Make = Callable[..., dict[str, Any]]
Figures = Callable[[Path], list[dict[str, Any]]]
CPU = torch.device("cpu")
CELL = architecture("darts_v2")
SCRIPT = (5.0, 4.0, 3.0, 6.0, 6.0, 2.0)
"""With `average_after` 2 the fourth is the first that is worse than the best of all but the last two."""


@pytest.fixture(autouse=True)
def task() -> Iterator[type[Perplexing]]:
    with perplexing.known() as found:
        yield found


@pytest.fixture
def settings(config: Make) -> Make:
    def make(**train: Any) -> dict[str, Any]:
        made = config(train={"epochs": 6, "batch_size": 24, **train})
        made["task"] = {**made["task"], "name": "perplexing"}
        return made

    return make


def run(config: dict[str, Any]) -> TrainResult:
    return train(CELL, config, quiet=True)


def averaging(lines: list[dict[str, Any]]) -> list[float]:
    return [line["averaging"] for line in lines]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Perplexing, "SCRIPT", SCRIPT)


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(("patience", "epochs"), [(1, 4), (2, 4), (3, 5), (4, 6)])
def test_it_begins_after_the_epoch_that_is_worse_than_the_best_of_all_but_the_last_ones(
    settings: Make, figures: Figures, patience: int, epochs: int
) -> None:
    """As in AWD-LSTM; for so many epochs the weights themselves are measured. With patience 4 none is worse."""
    found = run(settings(average_after=patience))
    assert averaging(figures(found.path)) == [0.0] * epochs + [1.0] * (6 - epochs)


def test_without_the_setting_nothing_is_averaged_nor_said(settings: Make, figures: Figures) -> None:
    found = run(settings(average_after=None, epochs=1))
    assert all("averaging" not in line for line in figures(found.path))


def test_all_that_follow_weigh_the_same(train_job: Callable[..., TrainJob]) -> None:
    job = train_job(train={"average_after": 1, "validation": 0.25, "batch_size": 12})
    job.average.begin()
    seen: list[dict[str, Tensor]] = []
    for step in range(3):
        job.step(step)
        seen.append({name: value.clone() for name, value in job.network.state_dict().items()})
    for name, value in job.evaluated.state_dict().items():
        if value.is_floating_point():
            mean = torch.stack([each[name].double() for each in seen]).mean(dim=0).float()
            torch.testing.assert_close(value, mean, msg=name)
        else:
            assert torch.equal(value, seen[-1][name])
    first, last = seen[0], seen[-1]
    assert any(not torch.equal(first[name], last[name]) for name in first)


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("steps", [5, 8, 9, 11], ids=["before", "at", "just after", "after"])
def test_a_run_resumed_around_the_trigger_is_the_undisturbed_one(
    settings: Make,
    final_state: Callable[[Path], dict[str, Tensor]],
    same: Callable[..., bool],
    figures: Figures,
    interrupt: Callable[..., None],
    steps: int,
) -> None:
    """Two steps an epoch: the trigger comes at the end of step 8."""
    whole = run(settings(average_after=2))
    assert averaging(figures(whole.path)) == [0.0] * 4 + [1.0] * 2
    halved = settings(average_after=2)
    interrupt(TrainJob, steps)
    with pytest.raises(Interrupted, match=f"step {steps}/12"):
        run(halved)
    path = Path(halved["run"]["root"]) / halved["run"]["name"]
    resumed = train(resume=path, quiet=True)
    assert same(final_state(path), final_state(whole.path))
    assert figures(path) == figures(whole.path)
    assert resumed.evaluation == whole.evaluation
    assert (path / NETWORK_FILE).read_bytes() == (whole.path / NETWORK_FILE).read_bytes()


@pytest.mark.usefixtures("scripted")
def test_the_average_is_kept_and_measured(settings: Make, final_state: Callable[[Path], dict[str, Tensor]]) -> None:
    found = run(settings(average_after=2))
    state = final_state(found.path)
    assert state[".job.average.n_averaged"] == 4
    weights = found.network.state_dict()
    assert all(torch.equal(value, state[f".job.average.module.{name}"]) for name, value in weights.items())
    assert any(not torch.equal(value, state[f".job.network.{name}"]) for name, value in weights.items())
    assert evaluate(found.path) == evaluate(found.path, checkpoint="last") == found.evaluation


@pytest.mark.usefixtures("scripted")
def test_the_best_epoch_is_the_one_with_the_lowest_score(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Perplexing, "SCRIPT", (5.0, 3.0, 4.0, 6.0, 6.0, 6.0))
    found = run(settings(average_after=None))
    assert load_checkpoint(found.path)[1]["best"] == [-3.0, 4]
    assert evaluate(found.path, checkpoint="best") != found.evaluation


def test_training_is_followed_by_monitor_and_ends_with_evaluate(settings: Make, figures: Figures) -> None:
    found = run(settings(average_after=None, epochs=2))
    assert [line["validation/cheap"] for line in figures(found.path)] == [1.0, 1.0]
    assert found.validation is not None
    assert found.validation.part == "validation"


def test_figures_on_the_validation_part_are_written_beside_those_on_the_test_set(settings: Make) -> None:
    found = run(settings(average_after=None, epochs=1))
    assert found.validation is not None
    assert (found.evaluation.part, found.evaluation.error, found.evaluation.score_name) == ("test", None, "perplexity")
    written = json.loads((found.path / "evaluation.json").read_text())
    assert written.pop("preference") == -found.validation.score
    assert written.pop("shown") == f"{found.evaluation.score:.1f}"
    assert written.pop("metric")["name"] == "perplexity"
    expected = {**asdict(found.evaluation), "validation": asdict(found.validation), "channels": found.channels}
    assert written == expected
    assert found.evaluation.interval is None, "what its base class keeps is of another measure"
    assert evaluate_parts(found.path) == (found.evaluation, found.validation)


def test_without_a_test_the_validation_part_is_measured_once(settings: Make) -> None:
    found = run(settings(average_after=None, epochs=1, test=False))
    assert found.evaluation == found.validation


def test_the_task_s_factor_reaches_the_learning_rate_but_not_the_figure(settings: Make) -> None:
    made = settings(average_after=None, weights={"lr": 0.1, "schedule": "constant"})
    made["task"]["factor"] = 0.25
    given = resolve(made)
    job = TrainJob(given, CELL, load_task(given, CPU), CPU)
    job.step(0)
    assert job._optimizer.param_groups[0]["lr"] == 0.25 * 0.1
    assert job.end_epoch(1, {"loss": 0.0}).figures["learning_rate"] == 0.1


def test_the_task_s_factor_reaches_the_search_and_its_look_ahead(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(search={"weights": {"lr": 0.1}, "hypergradient": "unrolled"})
    made["task"] = {**made["task"], "name": "perplexing", "factor": 0.25}
    given = resolve(made)
    job = SearchJob(given, load_task(given, CPU), CPU)
    ahead: list[float] = []
    original = hypergradient.unrolled_loss
    monkeypatch.setattr(
        alpha_step, "unrolled_loss", lambda *args, xi, **more: ahead.append(xi) or original(*args, xi=xi, **more)
    )
    job.step(0)
    assert job.weight_optimizer.param_groups[0]["lr"] == 0.25 * 0.1
    assert ahead == [0.25 * 0.1]
