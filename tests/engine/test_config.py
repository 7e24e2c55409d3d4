"""Defaults of tasks and spaces under what was given, older names, and settings that do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from tests import perplexing
from tests.perplexing import Perplexing

from datanas.config import parse_yaml
from datanas.engine.config import Config, as_trained, resolve
from datanas.engine.sections import GapConfig, SearchConfig, SGDConfig
from datanas.errors import ConfigError
from datanas.published import architecture
from datanas.spaces import spaces
from datanas.spaces.conv_cell import ConvCellSpace


@pytest.fixture(autouse=True)
def task() -> Iterator[type[Perplexing]]:
    with perplexing.known() as found:
        yield found


def chosen(**given: Any) -> Config:
    return resolve({"task": "perplexing", **given})


def test_the_defaults_of_a_task_hold_where_nothing_is_said() -> None:
    config = chosen()
    assert (config.train.epochs, config.train.average_after, config.search.weights.schedule) == (6, 2, "constant")
    assert (config.space.channels, config.sampler.samples) == (3, 2)  # type: ignore[attr-defined]
    plain = resolve({})
    assert (plain.train.epochs, plain.train.average_after, plain.space.channels) == (600, None, 16)  # type: ignore[attr-defined]


def test_what_is_given_lies_over_the_defaults() -> None:
    config = resolve({"task": "perplexing", "train": {"epochs": 9}}, [("search.weights.lr", 0.5), ("space.nodes", 5)])
    assert (config.train.epochs, config.train.average_after) == (9, 2)
    assert (config.search.weights.lr, config.search.weights.schedule) == (0.5, "constant")
    assert (config.space.channels, config.space.nodes) == (3, 5)  # type: ignore[attr-defined]
    assert chosen(train={"average_after": None}).train.average_after is None


def test_the_defaults_for_a_component_are_not_those_of_another() -> None:
    config = chosen(sampler="darts", space={"name": "nasbench201"})
    assert (config.sampler.name, config.space.name) == ("darts", "nasbench201")
    assert config.space.channels == 16  # type: ignore[attr-defined]
    assert chosen(sampler="egs").sampler.samples == 2  # type: ignore[attr-defined]


def test_a_resolved_configuration_resolves_to_itself() -> None:
    config = chosen()
    assert resolve(parse_yaml(config.to_yaml())) == config
    assert resolve(config, [("train.average_after", None)]).train.average_after is None


def test_the_defaults_of_a_space_lie_under_those_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {"train": {"epochs": 44, "channels": 8}, "task": {"name": "perplexing", "factor": 0.5}}
    monkeypatch.setattr(ConvCellSpace, "defaults", defaults)
    config = chosen()
    assert (config.train.epochs, config.train.channels, config.task.factor) == (6, 8, 0.5)  # type: ignore[attr-defined]
    assert resolve({}).task.name == "classification"


def test_a_space_that_is_named_alone_brings_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConvCellSpace, "task", "perplexing")
    assert resolve({"space": "conv_cell"}).task.name == "perplexing"
    assert resolve({"space": "conv_cell", "task": {"factor": 0.5}}).task.factor == 0.5  # type: ignore[attr-defined]
    assert resolve({"space": "conv_cell", "task": "classification"}).task.name == "classification"


def test_an_unknown_task_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"^task\.name: unknown task 'perplexin'; did you mean 'perplexing'"):
        resolve({"task": "perplexin"})


@pytest.mark.parametrize("model", [SearchConfig, GapConfig])
def test_examples_may_be_called_images_as_before(model: type[SearchConfig]) -> None:
    assert model.model_validate({"images": 12}) == model(examples=12)
    assert "images" not in model.model_validate({"images": 12}).model_dump()


def test_examples_by_both_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^search\.gap: images is an older name of examples; .*, got both$"):
        resolve({"search": {"gap": {"images": 7, "examples": 7}}})


def test_the_older_name_is_taken_on_the_command_line() -> None:
    assert resolve({}, [("search.gap.images", 7)]).search.gap.examples == 7


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ConfigError, match=r"^train\.weights: nesterov needs a momentum above 0"):
        resolve({"train": {"weights": {"nesterov": True, "momentum": 0}}})
    assert SGDConfig(nesterov=True).nesterov


def test_a_space_refuses_fewer_cells_than_it_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    class Roomy(ConvCellSpace):
        fewest_cells = 1

        class Config(ConvCellSpace.Config):
            name: Literal["roomy"] = "roomy"  # type: ignore[assignment]

    list(spaces)
    monkeypatch.setitem(spaces._entries, "roomy", Roomy)
    with pytest.raises(ConfigError, match=r"^train\.cells: must be at least 3, got 2$"):
        resolve({"train": {"cells": 2}})
    assert resolve({"space": "roomy", "train": {"cells": 2}}).train.cells == 2


def test_a_share_is_held_out_only_where_the_data_bring_none() -> None:
    with pytest.raises(ConfigError, match=r"^train\.validation: task perplexing brings .* leave it at 0, got 0\.2$"):
        chosen(train={"validation": 0.2})
    assert resolve({"train": {"validation": 0.2}}).train.validation == 0.2


def test_no_test_needs_something_held_out() -> None:
    with pytest.raises(ConfigError, match=r"^train: test: false needs a held-out share; set validation$"):
        resolve({"train": {"test": False}})
    assert not chosen(train={"test": False}).train.test


def test_a_trigger_to_average_needs_something_held_out() -> None:
    with pytest.raises(ConfigError, match=r"^train\.average_after: .* set train\.validation$"):
        resolve({"train": {"average_after": 5}})
    assert resolve({"train": {"average_after": 5, "parts": "search"}}).train.average_after == 5


def test_there_is_one_average_of_the_weights() -> None:
    with pytest.raises(ConfigError, match=r"^train: ema and average_after are two averages"):
        chosen(train={"ema": 0.9})


@pytest.mark.parametrize("section", ["search", "train"])
def test_a_batch_holds_what_batch_norm_needs(section: str) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.batch_size: must be at least 2 for task classification, got 1"):
        resolve({section: {"batch_size": 1}})


def test_what_a_reference_cannot_do_without_stands_above_the_recipe() -> None:
    config = resolve({"task": {"name": "fewshot", "stem": "cifar"}, "train": {"cells": 5, "channels": 16}})
    found = as_trained(config, architecture("conv4"))
    assert (found.train.cells, found.train.auxiliary, found.train.channels) == (4, False, 16)
    assert found.task.model_dump()["stem"] == "none"
    assert as_trained(found, architecture("conv4")) == found


def test_it_leaves_another_task_and_a_searched_cell_alone() -> None:
    config = resolve({"train": {"cells": 5}})
    assert as_trained(config, architecture("conv4")).task == config.task
    assert as_trained(config, architecture("data_m7")) is config
    assert as_trained(config, architecture("resnet18")).train.cells == 8
