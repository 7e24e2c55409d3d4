"""Budgets on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datanas.cli import main
from datanas.core.settings import merge
from datanas.engine.search import search

SMALL = {
    "space": {"cells": 3, "primitives": ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]},
    "train": {"cells": 3},
    "search": {"epochs": 1},
}


@pytest.fixture(scope="module")
def run(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search(merge(make_config(tmp_path_factory.mktemp("runs")), SMALL), quiet=True).path


def test_derive_within_a_bound_says_what_the_network_costs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["derive", str(run), "--budget.macs", "150k", "--budget.parameters=20k"]) == 0
    said = capsys.readouterr().out
    assert "its network: " in said
    assert "multiply-adds" in said
    assert "parameters" in said
    assert (run / "derived.json").is_file()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--budget.macs", "1k"], 2, "budget.macs: no network of 4 channels in the first of 3 cells has less than"),
        (["--budget.macs", "5ms"], 2, "budget.macs: must be a count"),
        (["--budget.speed", "5"], 2, "budget.speed: unknown key"),
        (["--budget.latency", "5ms"], 2, "latency needs latency_table"),
        (["--sampler.samples", "5"], 2, "--sampler.samples: derive takes settings of budget and train alone"),
        (["--budget.latency", "5ms", "--budget.latency_table", "nowhere.csv"], 8, "nowhere.csv"),
    ],
)
def test_faults_have_their_code_and_message(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert main(["derive", str(run), *options]) == code
    assert message in capsys.readouterr().err


def test_a_search_takes_bounds_beside_its_time_and_leaves_nothing_where_none_is_met(
    make_config: Callable[[Path], dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(merge(make_config(tmp_path / "runs"), SMALL)))
    assert main(["search", "-c", str(recipe), "--budget.macs", "1k", "--quiet"]) == 2
    assert "has less than" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert main(["search", "-c", str(recipe), "--budget.macs", "150k", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "budget              can be met; the least is macs" in said
    assert "of 150 k multiply-adds" in said
