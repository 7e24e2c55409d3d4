"""The examples run, and so does what docs/choice.md, docs/cells.md and docs/cluster.md show as Python."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datanas.spaces import spaces

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "choice.md").read_text(encoding="utf-8")


def test_the_transformer_is_searched_and_trained(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        arrays[f"{part}_x"] = rng.integers(0, 256, (32, 32, 32, 3)).astype(np.uint8)
        arrays[f"{part}_y"] = np.arange(32) % 10
    np.savez(tmp_path / "images.npz", **arrays)
    script = ROOT / "examples" / "own_transformer.py"
    command = [sys.executable, str(script), str(tmp_path / "images.npz"), "--epochs", "1", "--batch", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^blocks +repeat[123]$", done.stdout, re.MULTILINE)
    assert re.search(r"parameters, accuracy on the test part \d+\.\d%", done.stdout)


LEAST = ("--warm-up", "1", "--search-steps", "2", "--steps", "2", "--random", "1")


@pytest.mark.parametrize("name", ["vision_transformer", "time_series"])
def test_what_is_searched_is_trained_beside_a_random_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        arrays[f"{part}_x"] = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        arrays[f"{part}_y"] = np.arange(20) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays, classes=np.array(list("abcdefghij")))
    given = [str(tmp_path / "cifar10.npz")] if name == "vision_transformer" else []
    monkeypatch.setattr(sys, "argv", [name, *given, *LEAST])
    importlib.import_module(f"examples.{name}").main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["searched", "random"]
    assert all(any(re.fullmatch(r"\d+\.\d%", word) for word in row) for row in rows)


def test_the_page_s_code_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {"__name__": "page"}
    entered = dict(spaces._entries)
    try:
        for block in blocks:
            exec(compile(block, "docs/choice.md", "exec", dont_inherit=True), names)
        assert list(names["MyNet"](names["MyNet"].Config()).groups()) == ["2"]
    finally:
        spaces._entries.clear()
        spaces._entries.update(entered)
    assert type(names["same"]) is names["Net"]
    assert names["features"].shape == (4, 8, 16)


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_about_cells_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = python_of("cells.md")
    names: dict[str, Any] = {}
    exec(first, names)
    assert capsys.readouterr().out.count("is the sum of") == 4
    exec(second, names)
    said = capsys.readouterr().out
    assert "tensor([0.7500, 0.5100, 0.2775, 0.0975])" in said
    assert "tensor([1., 1., 0., 0.])" in said


class Trial:
    """What Optuna hands to an objective: the least of everything."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return low

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return low


def test_the_objective_of_an_outer_search_is_a_score_on_held_out_examples(
    tiny_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = {name: section for name, section in tiny_config.items() if name != "run"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    names: dict[str, Any] = {}
    exec(python_of("cluster.md")[0], names)
    score = names["objective"](Trial())
    (file,) = tmp_path.glob("runs/*/evaluation.json")
    written = json.loads(file.read_text())
    assert (written["score"], written["part"]) == (score, "validation")
