"""What a training takes over from the run whose architecture it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datanas.core.settings import Written
from datanas.engine.config import resolve
from datanas.engine.earlier_run import with_recipe_of
from datanas.lookup import architecture

RECIPE: dict[str, Any] = {
    "seed": 3,
    "threads": 1,
    "devices": 2,
    "run": {"name": "s", "root": "elsewhere", "keep": 5},
    "data": {"name": "photos", "per_class": 20},
    "task": {"stem": "cifar_half"},
    "space": {"cells": 3},
    "train": {"channels": 4, "epochs": 7},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as far as another run looks into it."""
    (tmp_path / "config.yaml").write_text(resolve(RECIPE).to_yaml())
    architecture("darts_v2").save(tmp_path / "architecture.json")
    return tmp_path


def test_all_of_a_run_s_recipe_holds_but_where_it_is_and_who_makes_it(run: Path) -> None:
    config = resolve(with_recipe_of(str(run), {}, {}))
    expected = resolve(RECIPE)
    for section in ("seed", "threads", "data", "task", "train", "search", "space", "sampler"):
        assert getattr(config, section) == getattr(expected, section)
    assert (config.devices, config.run.name, str(config.run.root), config.run.keep) == (1, None, "runs", 5)


def test_what_is_asked_for_lies_on_top(run: Path) -> None:
    config = resolve(with_recipe_of(run, {"train": {"epochs": 2}, "data": {"test_per_class": 7}}, {}))
    assert (config.train.epochs, dict(config.train)["channels"]) == (2, 4)
    assert config.data == resolve({"data": {"name": "photos", "per_class": 20, "test_per_class": 7}}).data
    assert resolve(with_recipe_of(run, {}, {}), [("train.epochs", 5)]).train.epochs == 5


@pytest.mark.parametrize("settings", [{"task.name": Written("fewshot")}, {"task": Written("fewshot")}])
def test_another_task_is_trained_as_that_task_is(run: Path, settings: dict[str, Any]) -> None:
    found = with_recipe_of(run, {}, settings)
    assert "train" not in found
    config = resolve(found, [("task.name", "fewshot")])
    assert config.train == resolve({"task": "fewshot"}).train
    assert (config.seed, config.data) == (3, resolve(RECIPE).data)
    assert "train" not in with_recipe_of(run, {"task": {"name": "fewshot"}}, {})


@pytest.mark.parametrize("given", ["darts_v2", "x" * 300, "{", "a\0b", architecture("darts_v2")])
def test_of_anything_else_nothing_is_taken_over(given: Any) -> None:
    assert with_recipe_of(given, {"seed": 5}, {}) == {"seed": 5}
