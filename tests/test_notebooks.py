"""The notebooks in docs/notebooks run from top to bottom, and are kept without outputs.

Their fits, comparisons and races are those of the notebooks, planned small and made in this process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.inside import Inside

from datanas.comparison import plan, pool
from datanas.core.settings import merge
from datanas.engine.config import resolve
from datanas.fitting import fit as fitting
from datanas.fitting.plan import Plan
from datanas.racing import race
from datanas.racing.plan import Pace

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {
    "task": {"stem": "plain", "train_augment": {"cutout": 0}},
    "space": {"name": "nasbench201", "channels": 2, "cells_per_stage": 1},
    "search": {"epochs": 1, "batch_size": 16, "gap": {"children": 2, "examples": 6}},
    "train": {"channels": 4, "cells": 3, "epochs": 2, "batch_size": 16, "auxiliary": False},
    "device": "cpu",
}


def small_plan(given: Any, seconds: float, **_: Any) -> Plan:
    config = resolve(merge(SMALL, given)).model_dump(mode="json")
    return Plan(seconds, config, 1.0, 1.0, None, epochs=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "make_plan", small_plan)
    monkeypatch.setattr(pool, "_start", Inside().start)
    monkeypatch.setattr(pool, "_POLL", 0.0)
    monkeypatch.setattr(plan, "measure_job", lambda job, device: (0.01, 0.01))
    monkeypatch.setattr(race, "measure_pace", lambda *_: Pace(6, 0.1, 1.0, 1))


def cells(notebook: Path, kind: str) -> list[str]:
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def run(notebook: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, code in enumerate(cells(notebook, "code")):
        exec(compile(code, f"{notebook.name}, cell {number}", "exec", dont_inherit=True), names)
    return names


def test_pictures_become_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(FOLDER / "my_pictures.ipynb", tmp_path, monkeypatch)
    assert set(names["found"].labels) <= set(names["SHAPES"])
    assert names["classifier"].predict(names["fresh"]).shape == (30,)
    assert "accuracy" in capsys.readouterr().out


def test_a_search_explains_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("vl_convert")
    names = run(FOLDER / "why_this_cell.ipynb", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert re.search(r"M = 4: in with \[0\.94, 0\.76, 0\.48, 0\.19\]", said)
    assert len(re.findall(r"^log P ", said, re.MULTILINE)) == 3
    assert f"gap {names['gap'].gap:+.3f}" in said
    assert (tmp_path / "runs" / "why" / "report.html").is_file()


def test_a_comparison_has_its_controls_and_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(FOLDER / "fair_comparison.ipynb", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert [row["name"] for row in names["comparison"].data["rows"]] == ["egs", "random", "random cells"]
    assert re.search(r"^random cells +\d", said, re.MULTILINE)
    assert "points of the best finalist" in said
    first, second = names["rows"]
    difference, low, high = second["ahead"]
    assert difference == pytest.approx(second["value"] - first["value"])
    assert low < difference < high
    assert second["ahead_shown"] in said


def test_every_notebook_is_run_here() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["fair_comparison", "my_pictures", "why_this_cell"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_of_the_format_and_holds_no_outputs(notebook: Path) -> None:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in document["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", name) for name in names)
    for cell in document["cells"]:
        expected = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            expected |= {"execution_count", "outputs"}
            assert cell["execution_count"] is None
            assert cell["outputs"] == []
        assert cell.keys() == expected
