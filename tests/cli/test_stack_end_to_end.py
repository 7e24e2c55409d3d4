"""A cell for each place, on photographs of CIFAR-10, by the command line: searched, derived, trained deeper, used."""

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

SEARCH = {
    "epochs": 1,
    "batch_size": 100,
    "alpha": {"lr": 0.05},
    "gap": {"children": 2, "examples": 20, "statistics_batches": 1},
}
TRAIN = {"channels": 2, "cells": 8, "epochs": 1, "batch_size": 100, "auxiliary": False, "drop_path": 0.1}
CONSTRAINT = {"over": "architecture", "depth_power": 1.0}


def settings(root: Path, data: Path) -> list[str]:
    return [
        *flatten(
            {
                "run": {"root": str(root)},
                "device": "cpu",
                "data": {"name": "npz", "root": str(data)},
                "space": {"name": "conv_stack", "cells": 5, "channels": 2, "nodes": 4},
                "task": {"stem": "cifar_half"},
                "sampler": {"name": "egs", "constraint": CONSTRAINT},
                "search": SEARCH,
                "train": TRAIN,
            }
        ),
        *("--threads", "1"),
    ]


@pytest.fixture(scope="module")
def run(cli: Callable[..., Any], shared: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search, in a folder that no test may change."""
    root = tmp_path_factory.mktemp("stack")
    found = cli("search", *settings(root, shared("cifar10_mini.npz")), "--run.name", "search", "--quiet")
    assert found.code == 0, found.err
    return root / "search"


def test_a_network_is_derived_trained_deeper_measured_exported_and_used(
    run: Path, cli: Callable[..., Any], shared: Callable[..., Path], tmp_path: Path
) -> None:
    kept = Architecture.load(run / "architecture.json")
    assert list(kept.cells) == ["normal_0", "normal_2", "normal_4", "reduce_1", "reduce_3"]
    assert (run / "cells.svg").is_file()
    written = cli("derive", run, "--genotype").out.strip()
    assert Architecture.from_genotype(written).code.keys() == kept.code.keys()
    assert cli("derive", run, "--top", 3, "-o", tmp_path / "derived.json").code == 0
    given = settings(tmp_path, shared("cifar10_mini.npz"))
    trained = cli("train", tmp_path / "derived.json", *given, "--run.name", "train", "--quiet")
    assert trained.code == 0, trained.err
    measured = cli("evaluate", tmp_path / "train")
    assert measured.out.splitlines()[0] == trained.out.splitlines()[0]
    for target in ("exported", "network.onnx"):
        exported = cli("export", tmp_path / "train", tmp_path / target)
        assert exported.code == 0, exported.err
    Image.fromarray(np.full((32, 32, 3), 220, np.uint8)).save(tmp_path / "image.png")
    used = [cli("predict", tmp_path / name, tmp_path / "image.png").out for name in ("exported", "train")]
    assert used[0] == used[1] != ""
    assert cli("report", run, tmp_path / "train", "-o", tmp_path / "report.html").code == 0
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in kept.cells)


def test_a_depth_of_twenty_is_profiled_from_five(run: Path, cli: Callable[..., Any]) -> None:
    profiled = cli("profile", run, "--channels", 2, "--cells", 20, "--device", "cpu", "--no-memory")
    assert profiled.code == 0, profiled.err
    assert "cell 20" in profiled.out


def test_a_random_network_is_sampled(cli: Callable[..., Any], shared: Callable[..., Path], tmp_path: Path) -> None:
    drawn = cli("sample", *settings(tmp_path, shared("cifar10_mini.npz")), "-o", tmp_path / "random.json")
    assert drawn.code == 0, drawn.err
    assert Architecture.load(tmp_path / "random.json").space == "conv_stack"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--space.name", "conv_stack", "--space.cells", "4"), "space.cells: "),
        (
            ("--sampler.constraint.depth_power", "1"),
            "sampler.constraint.depth_power: the choice groups of space conv_cell",
        ),
        (("--sampler.constraint.over", "cells"), "sampler.constraint.over"),
    ],
)
def test_a_search_that_does_not_fit_is_refused(
    arguments: tuple[str, ...], said: str, refused: Callable[..., None], tiny_config: dict[str, Any]
) -> None:
    refused(2, said, "search", *flatten({key: tiny_config[key] for key in ("run", "device", "data")}), *arguments)


def test_a_file_that_lacks_a_place_is_refused(run: Path, refused: Callable[..., None], tmp_path: Path) -> None:
    document = json.loads((run / "architecture.json").read_text())
    del document["cells"]["normal_2"]
    (tmp_path / "less.json").write_text(json.dumps(document))
    refused(
        3,
        "less.json: cells: a network of space conv_stack has a cell for each place",
        "profile",
        tmp_path / "less.json",
    )


def test_random_and_searched_networks_meet_in_a_race(run: Path) -> None:
    config = load_run_config(run)
    found = gather([run], config, load_task(config, select_device(config)), 4)
    assert len({candidate.architecture for candidate in found}) == 4
    assert {candidate.is_searched for candidate in found} == {True, False}
