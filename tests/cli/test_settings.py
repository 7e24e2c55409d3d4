"""Settings and recipes that can be found: `datanas options`, `datanas recipes`, recipes by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from datanas.core.recipes import recipes
from datanas.engine.config import resolve
from datanas.engine.options import options


def test_every_setting_of_a_configuration_is_listed_once() -> None:
    config = resolve({})
    listed = [option.name for option in options(config)]
    assert len(listed) == len(set(listed))

    def leaves(data: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for key, value in data.items():
            is_section = isinstance(value, dict) and value
            found |= leaves(value, f"{path}{key}.") if is_section else {f"{path}{key}"}
        return found

    assert leaves(config.model_dump(mode="json")) <= set(listed)


def test_an_option_says_what_it_takes_its_default_and_what_it_means(cli: Callable[..., Any]) -> None:
    out = cli("options", "sampler.samples").out
    assert out.startswith("sampler.samples: whole number, >= 1, <= 64; default 4\n")
    assert "draws for each probability vector" in out


def test_components_and_recipes_decide_what_is_there(cli: Callable[..., Any]) -> None:
    assert "data.label_column" in cli("options", "data", "--data.name", "csv").out
    assert "data.root: path; required" in cli("options", "data", "--data.name", "csv").out
    assert (
        "search.epochs: whole number, >= 1; default 2\n" in cli("options", "search.epochs", "-c", "small/cifar10").out
    )


def test_a_name_that_is_none_is_told_with_the_nearest(cli: Callable[..., Any]) -> None:
    code, out, err = cli("options", "serch.alpha")
    assert (code, out) == (2, "")
    assert "did you mean 'search.alpha'" in err


@pytest.mark.parametrize("recipe", ["small/cifar10", "small/ptb", "small/omniglot"])
def test_the_schema_knows_all_that_a_recipe_says(recipe: str, cli: Callable[..., Any]) -> None:
    schema = json.loads(cli("options", "--schema", "-c", recipe).out)

    def unknown(data: dict[str, Any], section: dict[str, Any], path: str = "") -> list[str]:
        for reference in (section, *section.get("allOf", ()), *section.get("anyOf", ())):
            if "$ref" in reference:
                section = schema["$defs"][reference["$ref"].rpartition("/")[2]]
        known = section.get("properties", {})
        missing = [path + key for key in data if key not in known]
        inner = [(key, value) for key, value in data.items() if isinstance(value, dict) and key in known]
        return missing + [name for key, value in inner for name in unknown(value, known[key], f"{path}{key}.")]

    found = yaml.safe_load(recipes()[recipe].read_text())
    assert unknown(found, schema) == []
    assert unknown({"sampler": {"sample": 3}}, schema) == ["sampler.sample"]
    assert "required" not in schema


def test_recipes_are_listed_and_printed(cli: Callable[..., Any]) -> None:
    lines = cli("recipes").out.splitlines()
    assert len(lines) == len(recipes()) > 20
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert cli("recipes", "small/cifar10").out == recipes()["small/cifar10"].read_text()


@pytest.mark.parametrize("arguments", [("recipes", "small/cifar"), ("search", "-c", "small/cifar", "--print-config")])
def test_a_recipe_that_is_none_is_told_with_the_nearest(arguments: tuple[str, ...], cli: Callable[..., Any]) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert "did you mean 'small/cifar10'" in err
