"""A network to compare with, in one file outside the package."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import datanas
from datanas.cli import main
from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.references import references

PLUGIN = Path(__file__).parents[1] / "plugins" / "one_conv.py"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    list(references)
    yield Path(shutil.copy(PLUGIN, tmp_path))
    references._entries.pop("one_conv", None)


def test_it_is_listed_trained_and_measured_by_its_name(
    plugin: Path, tiny_config: Mapping[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "references", "--plugin", str(plugin)]) == 0
    assert "one_conv      Nobody: A convolution" in capsys.readouterr().out
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(dict(tiny_config)))
    assert main(["train", "one_conv", "-c", str(recipe), "--plugin", str(plugin), "--quiet"]) == 0
    run = tmp_path / "runs" / "run"
    assert resolve(yaml.safe_load((run / "config.yaml").read_text())).train.network == "one_conv"
    first = capsys.readouterr().out.splitlines()[0]
    assert main(["evaluate", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == first


def test_it_is_no_space_to_search(plugin: Path) -> None:
    with pytest.raises(
        ConfigError, match="in one_conv there is nothing to choose; train it by `datanas train one_conv`"
    ):
        resolve({"space": "one_conv", "plugins": [str(plugin)]})
    assert datanas.architecture("One-Conv").space == "one_conv"
