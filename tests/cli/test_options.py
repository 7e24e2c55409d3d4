"""Recipes, overrides, --print-config and --dry-run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datanas.core.settings import parse_yaml
from datanas.engine.config import resolve
from datanas.runs import read_metrics


def snapshot(run: Path) -> dict[str, bytes]:
    """The content of all files of a run but its lock."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != "lock"
    }


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


@pytest.mark.parametrize("section", ["search", "train"])
def test_an_override_leaves_the_defaults_beside_it(section: str, cli: Callable[..., Any]) -> None:
    printed = cli(section, f"--{section}.weights.momentum", 0.5, "--print-config").out
    expected = resolve({}).model_dump(mode="json")
    expected[section]["weights"]["momentum"] = 0.5
    assert parse_yaml(printed) == expected


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
@pytest.mark.parametrize(
    ("given", "differences"),
    [
        (["--sampler.samples", 3], ["sampler.samples: 4 in the run, 3 now"]),
        (["--seed", 1], ["seed: 0 in the run, 1 now"]),
        (
            ["--train.drop_path", 0.5, "--search.epochs", 3, "--space.nodes", 4],
            ["space.nodes: 5 in the run, 4 now", "train.drop_path: 0.1 in the run, 0.5 now"],
        ),
    ],
)
def test_settings_that_would_make_it_another_run_are_refused(
    command: str, given: list[object], differences: list[str], chain: Any, settings: list[str], cli: Callable[..., Any]
) -> None:
    run = getattr(chain, command)
    before = snapshot(run)
    ending = f"{run} goes on with its own settings; leave these out, or choose another --run.name"
    expected = "".join(f"error: {line}\n" for line in [*differences, ending])
    assert cli(command, "--resume", run, *given) == (2, "", expected)
    again = [chain.search] if command == "train" else []
    named = ["--run.root", chain.root, "--run.name", run.name]
    assert cli(command, *again, *settings, *named, *given) == (2, "", expected)
    assert snapshot(run) == before


@pytest.mark.parametrize("command", ["search", "train"])
def test_settings_that_may_change_are_taken_and_noted(
    command: str, chain: Any, tiny_images: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = Path(shutil.copytree(getattr(chain, command), tmp_path / "run"))
    moved = shutil.copy(tiny_images, tmp_path / "moved.npz")
    given = ["--data.root", moved, "--threads", 1, "--run.keep", 3]
    assert cli(command, "--resume", run, *given, "--quiet").code == 0
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert (written["data"]["root"], written["threads"]) == (str(moved), 1)
    (note,) = json.loads((run / "env.json").read_text())["resumed"]
    expected = {"data.root": [str(tiny_images), str(moved)], "run.keep": [2, 3], "threads": [None, 1]}
    assert note["changed"] == expected
    assert (written["run"]["name"], written["run"]["keep"]) == (command, 3)
    assert (note["from_step"], note["bit_exact"], note["because"]) == (6, True, [])


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_run_may_become_longer(command: str, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = Path(shutil.copytree(getattr(chain, command), tmp_path / "run"))
    assert cli(command, "--resume", run, f"--{command}.epochs", 3, "--quiet").code == 0
    assert [line["epoch"] for line in read_metrics(run)] == [1, 2, 3]
    (note,) = json.loads((run / "env.json").read_text())["resumed"]
    assert note["changed"] == {f"{command}.epochs": [2, 3]}
    assert (note["bit_exact"], note["because"]) == (False, [f"{command}.epochs: 2 -> 3"])


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_run_cannot_become_shorter_than_it_is(
    command: str, chain: Any, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = Path(shutil.copytree(getattr(chain, command), tmp_path / "run"))
    message = f"error: {command}.epochs: {run} has made 6 steps, more than 3\n"
    assert cli(command, "--resume", run, f"--{command}.epochs", 1) == (2, "", message)
    assert (run / "config.yaml").read_bytes() == (getattr(chain, command) / "config.yaml").read_bytes()
    assert cli(command, "--resume", run, "--quiet").code == 0


@pytest.mark.parametrize("command", ["search", "train"])
def test_the_recipe_of_a_run_may_be_given_again(
    command: str, chain: Any, recipe: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = Path(shutil.copytree(getattr(chain, command), tmp_path / "run"))
    assert cli(command, "--resume", run, "-c", recipe, "--quiet").code == 0
    assert (run / "config.yaml").read_bytes() == (getattr(chain, command) / "config.yaml").read_bytes()


def test_a_training_goes_on_with_no_other_architecture(
    chain: Any, settings: list[str], cli: Callable[..., Any]
) -> None:
    before = snapshot(chain.train)
    named = ["--run.root", chain.root, "--run.name", chain.train.name]
    message = f"error: {chain.train} trains another architecture; go on with --resume, or choose another --run.name\n"
    assert cli("train", "darts_v2", *settings, *named) == (2, "", message)
    assert snapshot(chain.train) == before


@pytest.mark.parametrize("command", [["search"], ["train"], ["train", "darts_v2"]])
def test_a_dry_run_is_of_a_new_run(command: list[str], chain: Any, cli: Callable[..., Any]) -> None:
    run = getattr(chain, command[0])
    before = snapshot(run)
    message = "error: --dry-run and --resume exclude each other\n"
    assert cli(*command, "--resume", run, "--dry-run") == (2, "", message)
    assert snapshot(run) == before


def test_the_written_configuration_is_plain_yaml(chain: Any) -> None:
    text = (chain.search / "config.yaml").read_text()
    assert "!!" not in text
    assert yaml.safe_dump(yaml.safe_load(text), sort_keys=False) == text


@pytest.mark.parametrize("command", ["search", "train"])
def test_where_and_how_to_compute_has_options_of_its_own(command: str, cli: Callable[..., Any]) -> None:
    given = ["--devices", 4, "--num-nodes", 2, "--strategy", "ddp", "--precision", "bfloat16"]
    code, out, err = cli(command, *given, "--print-config")
    assert (code, err) == (0, "")
    found = yaml.safe_load(out)
    assert (found["devices"], found["num_nodes"], found["strategy"]) == (4, 2, "ddp")
    precisions = {name: found[name]["precision"] for name in ("search", "train")}
    assert precisions == {"search": "float32", "train": "float32"} | {command: "bfloat16"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--devices", 0], "devices: must be at least 1, got 0"),
        (["--strategy", "fsdp"], "strategy: must be 'auto' or 'ddp', got 'fsdp'"),
        (["--precision", "float8"], "search.precision: must be 'float32' or 'bfloat16', got 'float8'"),
        (["--device", "cpu:1", "--devices", 2], "device: cpu:1 is one device, but devices asks for 2; say cpu"),
    ],
)
def test_places_that_are_none(given: list[object], message: str, cli: Callable[..., Any]) -> None:
    assert cli("search", *given) == (2, "", f"error: {message}\n")
