"""The settings of a network, which its space or reference declares, in the section `train`."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field
from torch import nn

import datanas
from datanas.codes.architecture import Architecture
from datanas.codes.liveness import LiveCount
from datanas.core.errors import ConfigError
from datanas.core.settings import Written, parse_yaml
from datanas.engine.config import Config, resolve
from datanas.engine.fit import require_search
from datanas.engine.rebuild import with_network_of
from datanas.lookup import architecture
from datanas.network import network_config
from datanas.references import references
from datanas.references.resnet18 import ResNet18
from datanas.spaces import spaces
from datanas.spaces.conv_body import ConvBody
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.network_config import NetworkConfig, ToweredConfig

STACK: dict[str, Any] = {
    "channels": 36,
    "cells": 20,
    "auxiliary": True,
    "drop_path": 0.2,
    "pooling_norm": False,
    "prune": True,
}
"""What version 0.1 wrote of a network where nothing was said."""
RECURRENT = STACK | {"channels": 850, "cells": 1, "auxiliary": False, "drop_path": 0.0}


def own(config: Config) -> dict[str, Any]:
    return dict(config.train.network_config)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("conv_cell", STACK),
        ("nasbench201", {name: value for name, value in STACK.items() if name != "auxiliary"}),
        ("recurrent_cell", {"channels": 850, "prune": True}),
    ],
)
def test_each_space_has_its_own_with_the_defaults_that_recipes_know(space: str, expected: dict[str, Any]) -> None:
    config = resolve({"space": space})
    assert own(config) == expected
    assert expected.items() <= config.model_dump()["train"].items()
    assert resolve(parse_yaml(config.to_yaml())) == config


@pytest.mark.parametrize(("space", "train"), [("nasbench201", STACK), ("recurrent_cell", RECURRENT)])
def test_a_recipe_that_version_0_1_resolved_is_read(space: str, train: dict[str, Any]) -> None:
    assert resolve({"space": space, "train": train}) == resolve({"space": space})
    older = {**train, "prune": False, "channels": 7}
    assert own(resolve({"space": space, "train": older})).items() >= {"prune": False, "channels": 7}.items()


@pytest.mark.parametrize(
    ("space", "setting", "value"),
    [
        ("nasbench201", "auxiliary", True),
        ("recurrent_cell", "cells", 2),
        ("recurrent_cell", "auxiliary", True),
        ("recurrent_cell", "drop_path", 0.1),
        ("recurrent_cell", "pooling_norm", True),
    ],
)
def test_what_a_space_does_not_have_is_refused(space: str, setting: str, value: Any) -> None:
    message = (
        rf"^train\.{setting}: no setting of {space}, which has channels, .*prune; leave it out or at .*, got {value}$"
    )
    with pytest.raises(ConfigError, match=message):
        resolve({"space": space, "train": {setting: value}})
    with pytest.raises(ConfigError, match=message):
        resolve({"space": space}, [(f"train.{setting}", Written(str(value)))])


@pytest.mark.parametrize(("setting", "value"), [("cells", "1"), ("auxiliary", "false"), ("drop_path", "0")])
def test_what_says_how_it_is_is_passed_over(setting: str, value: str) -> None:
    found = resolve({"space": "recurrent_cell"}, [(f"train.{setting}", Written(value))])
    assert found == resolve({"space": "recurrent_cell"})


def test_an_unknown_setting_is_told_with_the_nearest_of_the_network() -> None:
    with pytest.raises(ConfigError, match=r"^train\.auxiliry: unknown key; did you mean 'auxiliary'"):
        resolve({"train": {"auxiliry": True}})


def test_another_space_leaves_the_settings_of_the_former_s_network_behind() -> None:
    recipe = {"train": {"auxiliary": True, "channels": 8, "cells": 6, "epochs": 3}}
    found = resolve(recipe, [("space.name", "nasbench201")]).train.model_dump()
    assert (found["channels"], found["cells"], found["epochs"]) == (8, 6, 3)
    with pytest.raises(ConfigError, match=r"^train\.auxiliary: no setting of nasbench201"):
        resolve(recipe, [("space.name", "nasbench201"), ("train.auxiliary", True)])


class HeadedSpace(ConvCellSpace):
    """A space whose networks are set by something that no other knows, and have a width of another name."""

    class Config(ConvCellSpace.Config):
        name: Literal["headed"] = "headed"  # type: ignore[assignment]

    class Network(NetworkConfig):
        width_setting: ClassVar[str] = "units"
        units: int = Field(6, ge=1)
        heads: int = Field(2, ge=1)

    name: ClassVar[str] = "headed"
    told: ClassVar[list[NetworkConfig]] = []

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Any) -> ConvBody:
        cls.told.append(settings)
        return super().network_body(architecture, stem, ToweredConfig(channels=settings.units, cells=3))

    @classmethod
    def count_live(cls, architecture: Architecture, settings: Any) -> LiveCount:
        return super().count_live(architecture, ToweredConfig(cells=3))


@pytest.fixture
def headed() -> Iterator[type[HeadedSpace]]:
    list(spaces)
    spaces._entries["headed"] = HeadedSpace
    yield HeadedSpace
    del spaces._entries["headed"]
    HeadedSpace.told.clear()


def test_a_setting_of_a_space_of_one_s_own_reaches_its_network(headed: type[HeadedSpace], tiny_config: Any) -> None:
    cell = Architecture(architecture("gdas").cells, space="headed")
    config = {**tiny_config, "space": {"name": "headed"}, "train": {"heads": 4, "units": 2, "epochs": 1}}
    run = datanas.train(cell, config, quiet=True)
    assert headed.told[-1] == HeadedSpace.Network(units=2, heads=4)
    written = parse_yaml((run.path / "config.yaml").read_text())["train"]
    assert (written["heads"], written["units"], run.channels) == (4, 2, 2)
    assert not STACK.keys() & written.keys()
    assert datanas.evaluate(run.path) == run.evaluation
    with pytest.raises(ConfigError, match=r"^train\.heads: unknown key"):
        resolve({"train": {"heads": 4}})


def test_defaults_of_a_task_for_what_a_space_does_not_have_do_not_count(headed: type[HeadedSpace]) -> None:
    config = resolve({"task": "fewshot", "space": "headed"})
    assert own(config) == {"units": 6, "heads": 2}
    require_search(config)
    with pytest.raises(ConfigError, match=r"^train\.cells: no setting of headed, which has units, heads; .*, got 5$"):
        resolve({"task": "fewshot", "space": "headed", "train": {"cells": 5}})


def test_a_bound_settles_the_width_by_whatever_name(headed: type[HeadedSpace]) -> None:
    settings = HeadedSpace.Network(heads=3).at_width(9)
    assert (settings.width, settings.units, settings.heads) == (9, 9, 3)
    assert headed.smallest(settings, 4) == HeadedSpace.Network(units=4, heads=3)


def test_a_reference_is_described_by_its_own_settings_and_named() -> None:
    recipe = {"train": {"cells": 5, "drop_path": 0.1, "channels": 8}}
    found = with_network_of(resolve(recipe), architecture("resnet18"))
    assert (found.train.network, own(found)) == ("resnet18", {"channels": 8})
    assert resolve(parse_yaml(found.to_yaml())) == found
    assert with_network_of(found, architecture("resnet18")) == found
    back = with_network_of(found, architecture("gdas"))
    assert (back.train.network, own(back)) == (None, STACK | {"channels": 8})


@pytest.mark.parametrize("space", ["conv_cell", "nasbench201", "recurrent_cell"])
def test_a_configuration_can_be_copied_and_pickled(space: str) -> None:
    config = resolve({"space": space, "train": {"channels": 7}})
    for found in (pickle.loads(pickle.dumps(config)), deepcopy(config)):
        assert found == config
        assert type(found.train) is type(config.train)
        assert found.train.model_fields_set == config.train.model_fields_set


def test_a_recipe_may_set_what_only_a_reference_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(ResNet18.Network):
        strides: int = 2

    list(references)
    monkeypatch.setattr(ResNet18, "Network", Network)
    config = resolve({"train": {"network": "resnet18", "strides": 3}})
    assert own(with_network_of(config, architecture("resnet18"))) == {"channels": 64, "strides": 3}
    with pytest.raises(ConfigError, match=r"^train\.network: no network 'resnet19' is known; did you mean 'resnet18'"):
        resolve({"train": {"network": "resnet19"}})


def test_what_was_given_stays_told_from_defaults() -> None:
    """By that a run of an earlier version that goes on keeps what nothing is said of."""
    cell = Architecture.from_genotype("|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
    found = with_network_of(resolve({"train": {"cells": 3}}), cell)
    assert {"cells"} == found.train.model_fields_set & STACK.keys()


def test_a_network_body_of_version_0_1_is_told_by_keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Older(ConvCellSpace):
        network_size = (4, 3)

        @classmethod
        def network_body(  # type: ignore[override]
            cls, architecture: Any, stem: nn.Module, *, channels: int, cells: int, auxiliary: bool = False
        ) -> ConvBody:
            told.update(channels=channels, cells=cells, auxiliary=auxiliary)
            return ConvCellSpace.network_body(architecture, stem, ToweredConfig(**told))

        @classmethod
        def count_live(cls, architecture: Any, cells: int) -> Any:  # type: ignore[override]
            return ConvCellSpace.count_live(architecture, ToweredConfig(cells=cells))

    list(spaces)
    monkeypatch.setitem(spaces._entries, "older", Older)
    cell = Architecture(architecture("gdas").cells, space="older")
    datanas.build_network(cell)
    assert told == {"channels": 4, "cells": 3, "auxiliary": False}
    datanas.build_network(cell, channels=2, cells=5, auxiliary=True)
    assert told == {"channels": 2, "cells": 5, "auxiliary": True}


def test_build_network_refuses_what_a_network_does_not_have() -> None:
    assert dict(network_config(ResNet18, {"channels": None, "cells": 8, "auxiliary": False})) == {"channels": 64}
    with pytest.raises(ConfigError, match=r"^pooling_norm: no setting of resnet18, which has channels; "):
        datanas.build_network("resnet18", pooling_norm=True)


def test_nobody_outside_the_spaces_reads_a_setting_of_networks_of_cells() -> None:
    root = Path(datanas.__file__).parent
    files = [
        file for part in ("engine", "racing", "comparison", "deploy", "cli") for file in (root / part).glob("*.py")
    ]
    assert len(files) > 50
    assert not [f"{file.name}:{line}" for file in files for line in readings(file.read_text())]
    assert list(readings("a = config.train.cells\nb = train.channels\nc = settings.drop_path\nd = found.cells")) == [
        1,
        2,
        3,
    ]


def readings(source: str) -> Iterator[int]:
    """The lines that read one; `cells` and `channels` are also of other things than the section `train`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in STACK:
            holder = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", None)
            if node.attr not in ("cells", "channels") or holder == "train":
                yield node.lineno
