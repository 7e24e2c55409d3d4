"""What `datanas runs` says of folders, without torch and whatever is wrong with them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from datanas import search, train
from datanas.cli import main
from datanas.core.errors import RunInUseError
from datanas.runs.lock import Lock, is_held
from datanas.runs.overview import overview, overviews, remove


@pytest.fixture(scope="module")
def runs(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search and a training of what it kept, both complete."""
    root = tmp_path_factory.mktemp("runs")
    config = make_config(root)
    search({**config, "run": {"root": str(root), "name": "found"}}, quiet=True)
    train(root / "found", {**config, "run": {"root": str(root), "name": "trained"}}, quiet=True)
    return root


@pytest.fixture
def copy(runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


def test_the_list_says_kind_state_progress_and_score(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", str(runs)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "kind", "state", "epochs", "score", "parameters", "size", "about"]
    assert lines[0].split()[:4] == ["found", "search", "complete", "2/2"]
    assert lines[1].split()[:5] == ["trained", "train", "complete", "2/2", "accuracy"]
    assert all("classification on npz" in line for line in lines)


def test_one_run_is_shown_with_its_cell_and_how_sure_it_is(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", str(runs / "found"), str(runs / "trained")]) == 0
    said = capsys.readouterr().out
    assert "the search " in said
    assert "times less likely" in said
    assert f"datanas predict {runs / 'trained'} INPUT" in said


def test_runs_are_compared_by_what_they_recorded(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = json.loads((runs / "trained" / "evaluation.json").read_text())
    assert main(["runs", "compare", str(runs / "found"), str(runs / "trained")]) == 0
    assert f"accuracy {evaluation['score']:.1%}" in capsys.readouterr().out


def test_a_run_that_stopped_says_how_it_goes_on(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "trained" / "evaluation.json").unlink()
    assert main(["runs", "show", str(copy / "trained")]) == 0
    assert f"it goes on with: datanas train --resume {copy / 'trained'}" in capsys.readouterr().out


def test_a_run_under_way_is_running_and_is_not_removed(copy: Path) -> None:
    lock = Lock(copy / "found" / "lock")
    try:
        assert is_held(copy / "found" / "lock")
        assert overview(copy / "found").state == "running"
        with pytest.raises(RunInUseError):
            remove(copy / "found" / "checkpoints")
    finally:
        lock.release()
    assert not is_held(copy / "found" / "lock")
    assert overview(copy / "found").state == "complete"


def test_cleaning_names_first_and_removes_only_when_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "never").mkdir()
    (copy / "never" / "config.yaml").write_text("seed: 0\n")
    (copy / "never" / "env.json").write_text('{"kind": "search"}')
    (copy / "foreign").mkdir()
    (copy / "foreign" / "config.yaml").write_text("mine: true\n")
    assert main(["runs", "clean", str(copy)]) == 0
    assert (copy / "trained" / "checkpoints").is_dir()
    assert "--yes removes them" in capsys.readouterr().out
    assert main(["runs", "clean", str(copy), "--yes"]) == 0
    assert not (copy / "trained" / "checkpoints").exists()
    assert (copy / "found" / "checkpoints").is_dir(), "derive and race read those of a search"
    assert not (copy / "never").exists()
    assert (copy / "foreign" / "config.yaml").is_file(), "it is not ours"
    assert [each.kind for each in overviews(copy)] == ["unknown", "search", "train"]


@pytest.mark.parametrize("name", ["config.yaml", "env.json"])
def test_a_damaged_run_is_listed_as_that(copy: Path, name: str) -> None:
    (copy / "found" / name).write_bytes(b"{ not: [sound")
    assert overview(copy / "found").state == f"damaged: {name} cannot be read"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["runs", "list", "/nowhere/at-all"], 2, "no such folder"),
        (["runs", "show"], 2, "which? give run folders"),
        (["runs", "show", "/nowhere/at-all"], 3, "not a run folder"),
        (["runs", "list", "a", "b"], 2, "takes one folder of runs"),
    ],
)
def test_what_cannot_be_shown_is_said(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert message in capsys.readouterr().err


def test_a_list_and_a_screen_show_the_same_digits_of_a_score(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads((runs / "trained" / "evaluation.json").read_text())["shown"]
    for action in (["list", str(runs)], ["show", str(runs / "trained")], ["compare", str(runs / "trained")]):
        assert main(["runs", *action]) == 0
        assert re.search(rf"accuracy {shown}[ ,]", capsys.readouterr().out.replace("\n", " "))
