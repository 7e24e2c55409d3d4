"""Defaults of tasks and spaces under what was given, older names, and settings that do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from tests import perplexing
from tests.perplexing import Perplexing

from datanas.core.errors import ConfigError
from datanas.core.settings import MissingSettings, parse_yaml
from datanas.engine.components import lay_over
from datanas.engine.config import Config, resolve, resolved_yaml
from datanas.engine.fit import require_search
from datanas.engine.rebuild import with_network_of
from datanas.engine.sections import GapConfig, SearchConfig, SGDConfig
from datanas.lookup import architecture
from datanas.samplers import samplers
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
        require_search(resolve({"train": {"cells": 2}}))
    require_search(resolve({"space": "roomy", "train": {"cells": 2}}))


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
    found = with_network_of(config, architecture("conv4"))
    assert found.train.network == "conv4"
    assert dict(found.train.network_config) == {"channels": 16}
    assert found.task.model_dump()["stem"] == "none"
    assert with_network_of(found, architecture("conv4")) == found


def test_it_leaves_another_task_and_a_searched_cell_alone() -> None:
    config = resolve({"train": {"cells": 5}})
    assert with_network_of(config, architecture("conv4")).task == config.task
    assert with_network_of(config, architecture("data_m7")) is config
    assert with_network_of(config, architecture("resnet18")).train.network == "resnet18"


EGS = {"samples": 7, "preset": "paper", "constraint": {"gamma": 0.5}, "derivation": {"rule": "top_edges"}}


@pytest.mark.parametrize("name", [name for name in samplers if name != "egs"])
def test_another_method_begins_with_its_own_settings_and_the_rest_of_a_recipe_stays(name: str) -> None:
    recipe = {"sampler": EGS, "search": {"epochs": 3, "alpha": {"lr": 0.5}}}
    found = resolve(recipe, [("sampler.name", name)])
    assert found.sampler == resolve({"sampler": name}).sampler
    assert found.search == resolve(recipe).search


def test_what_is_given_with_another_method_s_name_is_never_dropped() -> None:
    recipe = {"sampler": EGS}
    for overrides in (
        [("sampler.samples", 3), ("sampler.name", "darts")],
        [("sampler.name", "darts"), ("sampler.samples", 3)],
    ):
        with pytest.raises(ConfigError, match=r"^sampler\.samples: unknown key"):
            resolve(recipe, overrides)
    assert resolve(recipe, [("sampler.name", "darts"), ("sampler.init_std", 0.5)]).sampler.init_std == 0.5  # type: ignore[attr-defined]


def test_the_same_method_by_name_keeps_its_settings() -> None:
    assert resolve({"sampler": EGS}, [("sampler.name", "egs")]) == resolve({"sampler": EGS})
    assert resolve({"sampler": "darts"}, [("sampler.init_std", 0.5)]).sampler.name == "darts"


def test_a_misspelt_setting_of_the_former_method_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^data\.resiez: unknown key"):
        resolve({"data": {"name": "folder", "root": ".", "resiez": 3}}, [("data.name", "class_folders")])


def test_another_data_set_keeps_what_both_declare_alike() -> None:
    folder = {"name": "folder", "root": "x", "resize": 32, "channels": 1}
    same = resolve({"data": folder}, [("data.name", "class_folders")]).data.model_dump()
    assert (same["resize"], same["channels"], str(same["root"])) == (32, 1, "x")
    other = resolve({"data": folder}, [("data.name", "image_files")]).data.model_dump()
    assert (other["resize"], other["channels"], str(other["root"])) == (256, 1, "x")


def test_another_space_and_the_task_that_it_brings_leave_the_former_s_settings_behind() -> None:
    recipe = {"task": {"stem": "cifar_half"}, "space": {"channels": 8, "cells": 3, "nodes": 5}}
    assert resolve(recipe, [("space.name", "nasbench201")]).space.model_dump() == {
        "name": "nasbench201",
        "cells_per_stage": 1,
        "channels": 8,
    }
    assert resolve(recipe, [("space.name", "nasbench201")]).task.model_dump()["stem"] == "cifar_half"
    recurrent = resolve(recipe, [("space.name", "recurrent_cell")])
    assert (recurrent.task.name, recurrent.space.model_dump()["nodes"]) == ("language", 12)


def test_a_recipe_that_is_laid_over_another_may_choose_otherwise() -> None:
    found = lay_over({"sampler": EGS, "seed": 3}, {"sampler": {"name": "gdas"}})
    assert found == {"sampler": {"name": "gdas"}, "seed": 3}


def test_the_text_of_a_recipe_without_its_data_leaves_them_to_be_given() -> None:
    text, missing = resolved_yaml({"data": {"name": "cifar10"}, "seed": 3})
    assert missing == ("data.root",)
    assert parse_yaml(text)["data"] == {"name": "cifar10", "train_images": None, "test_images": None}
    with pytest.raises(MissingSettings, match=r"^data\.root: is required$"):
        resolve(parse_yaml(text))
    with pytest.raises(ConfigError, match="sed: unknown key"):
        resolved_yaml({"data": {"name": "cifar10"}, "sed": 3})
