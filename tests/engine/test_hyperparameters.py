"""Settings that tell a run from others are those that differ from their defaults, and no others."""

from __future__ import annotations

from datanas.engine.config import resolve
from datanas.engine.hyperparameters import hyperparameters

NAMES = {"seed": 0, "data.name": "photos", "task.name": "classification", "space.name": "conv_cell"}


def test_defaults_say_what_a_run_is_and_nothing_else() -> None:
    assert hyperparameters(resolve({}), "search") == {**NAMES, "sampler.name": "egs"}


def test_what_differs_is_said_of_the_kind_of_run_that_it_counts_for() -> None:
    config = resolve({"seed": 4, "search": {"epochs": 3}, "train": {"epochs": 7}, "run": {"name": "mine"}})
    assert hyperparameters(config, "search") == {**NAMES, "seed": 4, "sampler.name": "egs", "search.epochs": 3}
    assert hyperparameters(config, "train") == {**NAMES, "seed": 4, "train.epochs": 7}


def test_defaults_are_those_of_the_components() -> None:
    found = hyperparameters(resolve({"space": {"name": "nasbench201"}, "sampler": {"name": "darts"}}), "search")
    assert found == {**NAMES, "space.name": "nasbench201", "sampler.name": "darts"}


def test_a_component_with_settings_that_must_be_given_says_them() -> None:
    config = resolve({"data": {"name": "npz", "root": "x.npz"}})
    found = hyperparameters(config, "search")
    assert found["data.name"] == "npz"
    assert "data.root" not in found


def test_lists_are_text() -> None:
    primitives = ["none", "skip_connect", "sep_conv_3x3"]
    found = hyperparameters(resolve({"space": {"primitives": primitives}}), "search")
    assert found["space.primitives"] == '["none", "skip_connect", "sep_conv_3x3"]'
