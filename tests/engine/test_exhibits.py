"""exhibits.json: what it holds, that its costs add up, and that nothing depends on its being made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import datanas
from datanas.core.errors import RunInUseError, StorageError
from datanas.core.exhibits import exhibit_from_json
from datanas.engine.evaluation import evaluate_parts
from datanas.engine.exhibits import EXHIBITS_FILE, cost_tables, timed_cost_tables
from datanas.engine.part_times import INPUTS, REST, SUMS
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.network import Network
from datanas.runs.folder import RunFolder
from datanas.tasks.classification import Classification

BENCHMARK = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|avg_pool_3x3~2|"


def small(name: str) -> tuple[Network, Any]:
    """A network that takes a moment, and an example for it."""
    architecture = datanas.Architecture.from_genotype(name) if name == BENCHMARK else datanas.architecture(name)
    network = datanas.build_network(architecture, channels=4, cells={"gdas": 5, BENCHMARK: 3}.get(name)).eval()
    return network, (torch.zeros(3, 1, dtype=torch.int64), None) if "rnn" in name else torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(("name", "cells"), [("gdas", 5), ("resnet18", None), (BENCHMARK, 3)])
def test_costs_by_part_and_operation_add_up_to_those_of_the_network(name: str, cells: int | None) -> None:
    architecture = datanas.Architecture.from_genotype(name) if name == BENCHMARK else datanas.architecture(name)
    network = datanas.build_network(architecture, channels=4, cells=cells).eval()
    x = torch.zeros(1, 3, 16, 16)
    tables = cost_tables(network, x)
    assert len(tables) == (2 if cells else 1)
    for table in tables:
        assert sum(int(row[1] or 0) for row in table.rows) == count_macs(network, x)
        assert sum(int(row[2] or 0) for row in table.rows) == count_parameters(network)
        assert all(min(int(row[1] or 0), int(row[2] or 0)) >= 0 for row in table.rows)
    parts = [row[0] for row in tables[0].rows]
    assert [part for part in parts if str(part).startswith("cell")] == [f"cell {i + 1}" for i in range(cells or 0)]


def test_operations_are_those_of_the_architecture() -> None:
    architecture = datanas.architecture("gdas")
    network = datanas.build_network(architecture, channels=4, cells=5).eval()
    _, by_operation = cost_tables(network, torch.zeros(1, 3, 16, 16))
    used = {name for cell in architecture.cells.values() for name, _, _ in cell.operations()}
    assert {str(row[0]) for row in by_operation.rows} - {INPUTS, REST} <= used
    assert "sep_conv_3x3" in [row[0] for row in by_operation.rows]


def test_the_auxiliary_tower_is_left_out() -> None:
    with_tower = datanas.build_network("gdas", channels=4, cells=5, auxiliary=True).eval()
    without = datanas.build_network("gdas", channels=4, cells=5).eval()
    x = torch.zeros(1, 3, 32, 32)
    assert cost_tables(with_tower, x) == cost_tables(without, x)


@pytest.fixture(scope="module")
def trained(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datanas.train("gdas", make_config(tmp_path_factory.mktemp("runs")), quiet=True).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_training_keeps_what_its_task_shows(trained: Path) -> None:
    data = json.loads((trained / EXHIBITS_FILE).read_text())
    assert data["part"] == "test"
    assert data["examples"] == 12
    assert [exhibit_from_json(each).kind for each in data["exhibits"]][:2] == ["confusion", "table"]


def test_a_task_that_fails_to_show_is_measured_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no pictures today")

    monkeypatch.setattr(Classification, "_shown", fail)
    evaluation, _ = evaluate_parts(run)
    assert evaluation.part == "test"
    assert "no pictures today" in caplog.text
    assert json.loads((run / EXHIBITS_FILE).read_text())["exhibits"] == []


def test_what_is_shown_costs_no_second_pass(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.engine.exhibits.timed_cost_tables", lambda *_: [])
    monkeypatch.setattr("datanas.engine.exhibits.cost_tables", lambda *_: [])
    images: list[int] = []
    forward = Network.forward

    def counted(self: Network, x: torch.Tensor) -> Any:
        images.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Network, "forward", counted)
    evaluate_parts(run)
    assert sum(images) == 12 + 1  # and one whose operations are counted


def untimed(file: Path) -> dict[str, Any]:
    """What the file says but for times, which are never the same."""
    data: dict[str, Any] = json.loads(file.read_text())
    for table in data["costs"]:
        assert table["columns"].pop() == "milliseconds"
        table["rows"] = [row[:-1] for row in table["rows"]]
        del table["note"]
    return data


@pytest.mark.parametrize(("name", "parts"), [("gdas", 8), ("resnet18", 3), ("darts_v2_rnn", 3), (BENCHMARK, 6)])
def test_every_part_has_a_time_beside_its_counts_and_no_hook_stays(name: str, parts: int) -> None:
    network, example = small(name)
    by_part, *_ = timed_cost_tables(network, example)
    assert by_part.columns[1:] == ("multiply-adds", "parameters", "milliseconds")
    assert len(by_part.rows) == parts
    assert all(isinstance(row[3], float) and row[3] > 0 for row in by_part.rows)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_operations_that_count_for_nothing_have_a_time_too() -> None:
    _, by_operation = timed_cost_tables(*small(BENCHMARK))
    rows = {str(row[0]): row for row in by_operation.rows}
    assert rows.keys() == {"nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", SUMS, REST}
    assert (rows["avg_pool_3x3"][1], rows["avg_pool_3x3"][2]) == (0, 0)
    assert all(isinstance(row[3], float) and row[3] > 0 for row in rows.values())


def test_times_that_cannot_be_taken_leave_the_counts(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no clock today")

    monkeypatch.setattr("datanas.engine.exhibits.measure_parts", fail)
    evaluate_parts(run)
    assert "no clock today" in caplog.text
    costs = json.loads((run / EXHIBITS_FILE).read_text())["costs"]
    assert [table["columns"][1:] for table in costs] == [["multiply-adds", "parameters"]] * 2


def test_evaluating_makes_the_file_where_it_is_missing(run: Path) -> None:
    content = untimed(run / EXHIBITS_FILE)
    (run / EXHIBITS_FILE).unlink()
    evaluate_parts(run, checkpoint="last")
    assert not (run / EXHIBITS_FILE).exists(), "it would be of another network"
    evaluate_parts(run)
    assert untimed(run / EXHIBITS_FILE) == content


def test_other_data_than_those_of_the_run_leave_the_file_alone(run: Path, tiny_images: Path, tmp_path: Path) -> None:
    content = (run / EXHIBITS_FILE).read_bytes()
    arrays = dict(np.load(tiny_images))
    np.savez(tmp_path / "other.npz", **{name: value[:-3] for name, value in arrays.items()})
    evaluate_parts(run, [("data.root", str(tmp_path / "other.npz"))])
    assert (run / EXHIBITS_FILE).read_bytes() == content


@pytest.mark.parametrize("error", [StorageError("full"), RunInUseError("taken")])
def test_a_folder_that_cannot_be_written_is_measured_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(path: Path) -> RunFolder:
        raise error

    monkeypatch.setattr(RunFolder, "open", refuse)
    evaluation, _ = evaluate_parts(run)
    assert evaluation.part == "test"
    assert f"could not be kept: {error}" in caplog.text
