"""A random cell from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.codes.architecture import Architecture

Cli = Callable[..., Any]


def test_the_seed_decides_the_cell(cli: Cli) -> None:
    first, again, other = (cli("sample", "--seed", seed) for seed in ("0", "0", "1"))
    assert first.code == 0
    assert first == again
    cell = Architecture.from_json(first.out)
    assert cell != Architecture.from_json(other.out)
    assert cell.source == {"method": "uniformly random", "seed": 0}


@pytest.mark.parametrize("space", ["conv_cell", "nasbench201", "recurrent_cell"])
def test_it_is_a_cell_of_the_space_and_is_written(cli: Cli, tmp_path: Path, space: str) -> None:
    outcome = cli("sample", "--space.name", space, "-o", str(tmp_path / "cell.json"))
    assert outcome.code == 0
    cell = Architecture.load(tmp_path / "cell.json")
    assert cell.space == space
    assert cell.to_genotype() in outcome.out


def test_a_space_without_choices_is_refused(cli: Cli) -> None:
    outcome = cli("sample", "--space.name", "lstm")
    assert outcome.code == 2
    assert "nothing to choose" in outcome.err
