"""A score of one's own in the place of a task's: what it is called with, and what it decides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.tasks import tasks
from datanas.tasks.base import Task
from datanas.testing.tiny_data import tiny_images, tiny_numbers, tiny_targets

HERE = __name__
CPU = torch.device("cpu")


def second_best(scores: Tensor, targets: Tensor) -> float:
    """The share of examples whose class is the second likeliest."""
    return float((scores.argsort(dim=1, descending=True)[:, 1] == targets).float().mean())


def worst(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores - targets).abs().max()


def count(scores: Tensor, targets: Tensor) -> int:
    return len(scores)


def accuracy(scores: Tensor, targets: Tensor) -> float:
    return 1.0


def undefined(scores: Tensor, targets: Tensor) -> float:
    return math.nan


def fails(scores: Tensor, targets: Tensor) -> float:
    raise RuntimeError("boom")


def draws(scores: Tensor, targets: Tensor) -> Tensor:
    return torch.rand(())


def changes(scores: Tensor, targets: Tensor) -> float:
    scores.zero_()
    targets.zero_()
    return 0.0


DATA: dict[str, Any] = {"classification": tiny_images, "multilabel": tiny_targets, "regression": tiny_numbers}


def make(task: str, function: str | None, **settings: object) -> Task[Any]:
    given = {"name": task, "metric": None if function is None else f"{HERE}:{function}", **settings}
    made = tasks[task](validate(tasks[task].Config, given, "task"), DATA[task](), CPU, 0)
    made.split_train(0.5, 4)
    return made


def network(task: Task[Any]) -> Any:
    """Scores that follow from the images alone."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(math.prod(task.example_shape), task.num_classes, generator=generator)
    return lambda images: images.flatten(1) @ weights


def test_it_is_taken_of_a_whole_part_beside_the_tasks_figures() -> None:
    task = make("classification", "count")
    figures = task.evaluate(network(task), "validation")
    assert figures.pop("count") == len(task.chosen()["validation"])
    assert figures == make("classification", None).evaluate(network(task), "validation")


def test_scores_and_targets_belong_together() -> None:
    """Of two classes the second likeliest is right wherever the likeliest is wrong."""
    task = make("classification", "second_best")
    model = network(task)
    figures = task.evaluate(lambda images: model(images) - torch.tensor([0.0, 0.0, 1e9]), "test")
    labels = task.data.test.labels  # type: ignore[attr-defined]
    assert 0 < figures["second_best"] < 1
    assert figures["second_best"] + figures["accuracy"] == pytest.approx(float((labels < 2).float().mean()))


@pytest.mark.parametrize("task", DATA)
def test_networks_are_compared_by_it(task: str) -> None:
    better, lower = make(task, "count"), make(task, "count", lower_is_better=True)
    assert (better.metric.name, better.metric.higher_is_better, better.metric.is_share) == ("count", True, False)
    assert better.selection_score({"count": 3.0}) == 3.0
    assert lower.selection_score({"count": 3.0}) == -3.0
    assert not better.tells_chance()
    assert type(better).measured_by(better.config) is type(better) is tasks[task].measured_by(better.config)
    assert tasks[task].metric.name != "count"


def test_other_figures_are_shown_as_before() -> None:
    task = make("classification", "count")
    assert task.figure("accuracy").show(0.5) == "50.0%"
    assert task.figure("count").show(0.5) == "0.5000"


def test_numbers_are_told_in_their_units() -> None:
    task = make("regression", "worst", lower_is_better=True)
    figures = task.evaluate(lambda images: torch.zeros(len(images), task.num_classes), "test")
    assert figures["worst"] == pytest.approx(float(task._targets["test"].abs().max()))  # type: ignore[attr-defined]


def test_answers_are_not_kept() -> None:
    task = make("multilabel", "count")
    assert task.evaluate_fully(network(task), "validation").answers == {}


def test_what_it_draws_changes_no_other_draws() -> None:
    task = make("classification", "draws")
    torch.manual_seed(0)
    first = task.evaluate(network(task), "validation")["draws"]
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.rand(()) == after
    assert task.evaluate(network(task), "validation")["draws"] == first


def test_it_changes_nothing_of_the_tasks_own_figures() -> None:
    model = network(make("regression", None))
    own = make("regression", "changes").evaluate(model, "test")
    assert {**own, "changes": None} == {**make("regression", None).evaluate(model, "test"), "changes": None}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("undefined", "gives nan; it must give a finite number"),
        ("fails", r"called with scores \(\d+, 3\) and targets \(\d+,\), fails: RuntimeError: boom"),
        ("accuracy", "would be called accuracy, as a figure of the task is"),
    ],
)
def test_what_is_no_score_is_said(function: str, message: str) -> None:
    task = make("classification", function)
    with pytest.raises(ConfigError, match=message):
        task.evaluate(network(task), "validation")


def test_a_direction_without_a_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="lower_is_better: belongs to metric"):
        make("classification", None, lower_is_better=True)
