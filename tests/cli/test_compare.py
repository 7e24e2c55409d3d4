"""`datanas compare` as far as it goes before the first run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.made_up_table import write_table

from datanas.comparison import plan, pool
from datanas.comparison.config import resolve_comparison

Cli = Callable[..., Any]


@pytest.fixture
def content(tiny_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    base = dict(tiny_config)
    run = base.pop("run")
    base |= {"space": {"name": "nasbench201", "channels": 2}, "truth": {"table": str(write_table(tmp_path / "t.npz"))}}
    base["task"] = {**base["task"], "stem": "plain"}
    return {
        "base": base,
        "methods": ["egs", "random"],
        "seeds": [0, 1],
        "budget": {"steps": 6},
        "run": {"root": run["root"], "name": "compared"},
    }


@pytest.fixture
def compare(content: dict[str, Any], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command with that recipe; no run may begin."""
    monkeypatch.setattr(pool, "_start", lambda *given: pytest.fail("a run has begun"))
    file = tmp_path / "compare.yaml"

    def call(*arguments: object, **over: Any) -> Any:
        file.write_text(yaml.safe_dump({**content, **over}))
        return cli("compare", "-c", file, *arguments)

    return call


def test_the_resolved_recipe_is_printed(compare: Cli, tmp_path: Path, runs: Path) -> None:
    outcome = compare("--print-config", "--budget.steps", 9, "--base.search.epochs", 5, "--processes", 3)
    assert (outcome.code, outcome.err) == (0, "")
    (tmp_path / "printed.yaml").write_text(outcome.out)
    found = resolve_comparison(tmp_path / "printed.yaml")
    assert found.to_yaml() == outcome.out
    assert (found.budget.steps, found.base["search"]["epochs"], found.processes) == (9, 5, 3)
    assert list(found.methods) == ["egs", "random"]
    assert not runs.exists()


def test_a_dry_run_prints_the_plan_with_its_time_and_writes_nothing(compare: Cli, runs: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    outcome = compare("--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    for line, name in zip(lines, ("egs", "random"), strict=False):
        assert re.fullmatch(rf"{name} 4 searches of 2 epochs, 6 steps, about \d+ s", line)
    assert re.fullmatch(r"about \d+ s with \d+ runs at a time", lines[2])
    assert len(lines) == 3
    assert [*sorted(tmp_path.rglob("*"))] == sorted({*before, tmp_path / "compare.yaml"})
    assert not runs.exists()


def test_a_dry_run_measures_where_time_counts(compare: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "measure_job", lambda job, device: (1.0, 2.0))
    outcome = compare("--dry-run", "--controls.best_of", 2, "--processes", 2, "--controls.shuffled_labels", "false")
    assert outcome.code == 0, outcome.err
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines == [
        "egs 2 searches of 2 epochs, 6 steps, about 8 s",
        "random 2 searches of 2 epochs, 6 steps, about 8 s",
        "best of random 4 trainings of 2 epochs",
        f"about {round((2 * 8 + 2 * 8 + 4 * 4) / 2)} s with 2 runs at a time",
    ]
    assert not runs.exists()


def test_a_dry_run_times_the_trainings_too(
    compare: Cli, runs: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "measure_job", lambda job, device: (60.0, 0.0))
    base = {key: value for key, value in content["base"].items() if key != "truth"}
    outcome = compare("--dry-run", "--processes", 2, base=base, retrain=True)
    assert outcome.code == 0, outcome.err
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    # Two epochs of three steps: those of two methods, on shuffled labels as well, and of one random cell a seed.
    assert lines[2:] == [
        "retrained 10 trainings of 2 epochs, 6 steps, about 360 s",
        f"about {round((8 * 360 + 10 * 360) / 2 / 60)} min with 2 runs at a time",
    ]
    assert not runs.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget.steps", 0], "budget.steps: must be at least 1, got 0"),
        (["--seeds", "[1, 1]"], "seeds: must be different"),
        (["--controls.best_off", 1], "controls.best_off: unknown key; did you mean 'best_of'?"),
        (["--base.search.epcohs", 1], "search.epcohs: unknown key; did you mean 'epochs'?"),
        (["--base.truth.metric", "test_acc/made"], "truth.metric: "),
        (["--base.truth", "t.npz"], "truth: "),
        (["--retrain", "true"], "a comparison needs one outside truth"),
        (["--processes", 0], "processes: must be at least 1, got 0"),
    ],
)
def test_a_bad_setting(arguments: list[object], message: str, compare: Cli, runs: Path) -> None:
    for more in ([], ["--dry-run"]):
        outcome = compare(*arguments, *more)
        assert (outcome.code, outcome.out) == (2, ""), outcome.err
        assert message in outcome.err
        assert "Traceback" not in outcome.err
    assert not runs.exists()


@pytest.mark.parametrize("methods", [["egs", {"darts": {}}], ["ges"], [], "egs", {"a/b": {}}, [1]])
def test_bad_methods(methods: object, compare: Cli, runs: Path) -> None:
    outcome = compare(methods=methods)
    assert outcome.code == 2, outcome.err
    assert "methods" in outcome.err
    assert "internal" not in outcome.err
    assert not runs.exists()


def test_no_recipe(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("compare")
    assert outcome.code == 2
    assert "a recipe is needed: datanas compare -c RECIPE" in outcome.err
    assert cli("compare", "-c", tmp_path / "gone.yaml").code == 2


def test_a_missing_table(compare: Cli, runs: Path) -> None:
    outcome = compare("--base.truth.table", "gone.npz")
    assert outcome.code == 8
    assert "gone.npz: No such file" in outcome.err
    assert not runs.exists()


def test_a_table_with_an_unknown_accuracy(compare: Cli, runs: Path, tmp_path: Path) -> None:
    with np.load(tmp_path / "t.npz") as archive:
        arrays = dict(archive)
    arrays["test_acc"][5, 0] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    outcome = compare("--base.truth.table", tmp_path / "nan.npz")
    assert outcome.code == 8
    assert "is not known for 1 cells: it is nan for |" in outcome.err
    assert not runs.exists()


def test_missing_data(compare: Cli, runs: Path) -> None:
    assert compare("--base.data.root", "gone.npz").code == 8
    assert not runs.exists()


def test_the_help(cli: Cli) -> None:
    outcome = cli("compare", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    for option in ("--config", "--resume", "--processes", "--print-config", "--dry-run", "--quiet"):
        assert option in outcome.out
    assert "Compare search methods on one budget" in outcome.out
