"""Recipes, overrides, --print-config and --dry-run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datanas.config import parse_yaml
from datanas.engine.config import resolve


def test_print_config_is_a_recipe_equal_to_the_resolved_one(
    settings: list[str], tiny_config: dict[str, Any], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    printed = cli("search", *settings, "--print-config")
    assert (printed.code, printed.err) == (0, "")
    assert resolve(parse_yaml(printed.out)) == resolve(tiny_config)
    (tmp_path / "printed.yaml").write_text(printed.out)
    assert cli("search", "-c", tmp_path / "printed.yaml", "--print-config") == printed
    assert cli("train", "-c", tmp_path / "printed.yaml", "--print-config") == printed


def test_print_config_without_settings_shows_the_defaults(cli: Callable[..., Any]) -> None:
    assert parse_yaml(cli("search", "--print-config").out) == resolve({}).model_dump(mode="json")


def test_print_config_of_a_run_shows_its_own(chain: Any, cli: Callable[..., Any]) -> None:
    printed = cli("search", "--resume", chain.search, "--print-config")
    assert printed.out == (chain.search / "config.yaml").read_text()


def test_print_config_touches_no_data_and_writes_nothing(recipe: Path, runs: Path, cli: Callable[..., Any]) -> None:
    assert cli("search", "-c", recipe, "--data.root", "no-such-file.npz", "--print-config").code == 0
    assert not runs.exists()


def test_an_override_wins_over_the_recipe_and_leaves_the_rest(recipe: Path, cli: Callable[..., Any]) -> None:
    def printed(*arguments: object) -> dict[str, Any]:
        plain: dict[str, Any] = parse_yaml(cli("search", "-c", recipe, *arguments, "--print-config").out)
        return plain

    given = ["--sampler.samples", 7, "--search.alpha.lr=1e-3", "--search.weights.nesterov", "true"]
    before, after = printed(), printed(*given)
    assert before["search"]["alpha"]["lr"] == 0.05
    before["sampler"]["samples"], before["search"]["alpha"]["lr"] = 7, 1e-3
    before["search"]["weights"]["nesterov"] = True
    assert before == after


def test_the_last_of_two_overrides_wins(cli: Callable[..., Any]) -> None:
    printed = cli("search", "--sampler.samples", 2, "--sampler.samples", 3, "--print-config").out
    assert parse_yaml(printed)["sampler"]["samples"] == 3


def test_dashes_in_a_name_stand_for_underscores(cli: Callable[..., Any]) -> None:
    printed = cli("search", "--search.batch-size", 32, "--print-config").out
    assert parse_yaml(printed)["search"]["batch_size"] == 32


def test_the_seed_wins_over_the_recipe(recipe: Path, cli: Callable[..., Any]) -> None:
    recipe.write_text(recipe.read_text() + "seed: 3\n")
    for given, seed in (([], 3), (["--seed", 5], 5)):
        assert parse_yaml(cli("search", "-c", recipe, *given, "--print-config").out)["seed"] == seed


@pytest.mark.parametrize("command", [["search"], ["train", "darts_v2"]])
def test_a_dry_run_estimates_and_writes_nothing(
    command: list[str], settings: list[str], runs: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    before = sorted(tmp_path.iterdir())
    code, out, err = cli(*command, *settings, "--dry-run")
    assert (code, err) == (0, "")
    for wanted in (" parameters", "multiply-adds", " GiB ", "one step ", "6 steps in 2 epochs, about 0:00:"):
        assert wanted in out
    assert sorted(tmp_path.iterdir()) == before
    assert not runs.exists()


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_run_that_goes_on_takes_no_settings(command: str, chain: Any, recipe: Path, cli: Callable[..., Any]) -> None:
    run = getattr(chain, command)
    before = (run / "env.json").read_bytes()
    for given in (["--sampler.samples", 3], ["-c", recipe], ["--seed", 1], ["--dry-run"]):
        code, out, err = cli(command, "--resume", run, *given)
        assert (code, out) == (2, "")
        assert "--resume" in err
    assert (run / "env.json").read_bytes() == before


def test_the_written_configuration_is_plain_yaml(chain: Any) -> None:
    text = (chain.search / "config.yaml").read_text()
    assert "!!" not in text
    assert yaml.safe_dump(yaml.safe_load(text), sort_keys=False) == text
