"""A whole network from the search to its use, by the command line, and bad input in one sentence with its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import flatten

from datanas import Architecture
from datanas.engine.earlier_run import load_run_config
from datanas.engine.setup import load_task, select_device
from datanas.racing.candidates import gather

SPACE = {"name": "macro", "channels": 2, "features": 4}


def sections(config: dict[str, Any]) -> dict[str, Any]:
    train = {"channels": 2, "features": 4, "epochs": 1, "batch_size": 16}
    search = {**config["search"], "judge": 0.25, "epochs": 1}
    return {**config, "space": SPACE, "train": train, "task": {**config["task"], "stem": "plain"}, "search": search}


@pytest.fixture(scope="module")
def run(
    make_config: Callable[[Path], dict[str, Any]], cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A search, in a folder that no test may change."""
    root = tmp_path_factory.mktemp("macro")
    outcome = cli("search", *flatten(sections(make_config(root))), "--run.name", "search", "--quiet")
    assert outcome.code == 0, outcome.err
    return root / "search"


def test_a_network_is_derived_trained_measured_exported_and_used(
    run: Path, make_config: Callable[[Path], dict[str, Any]], cli: Callable[..., Any], tmp_path: Path
) -> None:
    code = Architecture.load(run / "architecture.json").to_genotype()
    assert len(code) == 8
    assert cli("derive", run, "--genotype").out == f"{code}\n"
    ranked = cli("derive", run, "--top", 3, "-o", tmp_path / "derived.json").out
    assert [len(line.split()[-1]) for line in ranked.splitlines()[-3:-1]] == [8, 8]
    settings = flatten(sections(make_config(tmp_path)))
    trained = cli("train", code, *settings, "--run.name", "train", "--quiet")
    assert trained.code == 0, trained.err
    measured = cli("evaluate", tmp_path / "train")
    assert measured.out.splitlines() == trained.out.splitlines()[:2]
    profiled = cli("profile", code, "--channels", 4, "--device", "cpu", "--no-memory")
    assert profiled.code == 0, profiled.err
    assert cli("export", tmp_path / "train", tmp_path / "exported").code == 0
    Image.fromarray(np.full((8, 8, 3), 220, np.uint8)).save(tmp_path / "image.png")
    used = [
        cli("predict", folder, tmp_path / "image.png").out for folder in (tmp_path / "exported", tmp_path / "train")
    ]
    assert used[0] == used[1] != ""
    reported = cli("report", run, tmp_path / "train", "-o", tmp_path / "report.html")
    assert reported.code == 0, reported.err
    assert "mb3_k3" in (tmp_path / "report.html").read_text()


def test_random_and_searched_networks_meet_in_a_race(run: Path) -> None:
    config = load_run_config(run)
    found = gather([run], config, load_task(config, select_device(config)), 6)
    assert len({candidate.architecture.to_genotype() for candidate in found}) == 6
    assert sum(candidate.is_searched for candidate in found) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--space.name", "mobile", "--space.widths", "[1, 2]"), 2, "widths: must be one for each of the 6 stages"),
        (("--space.name", "mobile", "--space.primitives", "[identity, mb3_k3]"), 2, "at least two operations"),
        (("--space.name", "macro", "--task.stem", "cifar"), 2, "task.stem: macro needs a stem of its own width"),
        (("--space.name", "macro", "--sampler.name", "pc_darts"), 2, "cannot run its operations on part of the"),
        (("--space.name", "macro", "--train.cells", "8"), 2, "train.cells: no setting of macro"),
    ],
)
def test_a_search_that_does_not_fit_is_refused(
    arguments: tuple[str, ...], code: int, said: str, refused: Callable[..., None], tiny_config: dict[str, Any]
) -> None:
    given = {key: json.loads(json.dumps(tiny_config[key])) for key in ("run", "device", "data")}
    refused(code, said, "search", *flatten(given), *arguments)


@pytest.mark.parametrize("text", ["1201201", "12012013", "mobile: w200 identity"])
def test_a_text_that_is_no_network_is_refused(text: str, refused: Callable[..., None]) -> None:
    refused(3, "code: must be 8 digits" if text.isdigit() else "its shape changes there", "profile", text)
