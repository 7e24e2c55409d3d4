"""Recipes are known by name from anywhere, in whatever way people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from datanas.core.errors import ConfigError
from datanas.core.recipes import find_recipe, recipes


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["small/photos", "small/photos.yaml", "small/photos.yml", "recipes/small/photos.yaml"])
def test_a_recipe_that_comes_with_the_package(name: str) -> None:
    assert find_recipe(Path(name)) == recipes()["small/photos"]


def test_a_file_comes_before_a_recipe_of_its_name() -> None:
    Path("small").mkdir()
    Path("small/photos.yaml").write_text("seed: 3\n")
    assert find_recipe(Path("small/photos.yaml")) == Path("small/photos.yaml")


def test_another_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'small/photos'"):
        find_recipe(Path("small/foto"))
