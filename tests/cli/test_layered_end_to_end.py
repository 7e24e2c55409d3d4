"""All that is done with whole networks: bounded by a latency, raced, compared by their costs, exported as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.cli.conftest import flatten
from tests.inside import Inside

from datanas import Architecture
from datanas.comparison import pool
from datanas.engine import calibrate as calibration
from datanas.racing import pareto, race
from datanas.racing.plan import Pace, Plan, rungs_of

SPACES: dict[str, dict[str, Any]] = {
    "macro": {"name": "macro"},
    "mobile": {"name": "mobile", "layers": [1, 3], "widths": [1, 2], "strides": [1, 2]},
}


class Chain(NamedTuple):
    root: Path
    settings: list[str]
    search: Path
    table: Path


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """No clock is read, and trainings run in this process."""

    def timed(calls: Any, rounds: int, **_: Any) -> np.ndarray[Any, Any]:
        return np.array([np.arange(1.0, len(calls) + 1)] * rounds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "interleaved_ms", timed)
        patch.setattr(race, "make_plan", lambda *_, **__: Plan(rungs_of(6, 1), 1.0))
        for module in (race, pareto):
            patch.setattr(module, "measure_pace", lambda *_: Pace(6, 0.1, 1.0, 2))
        patch.setattr(pool, "_start", Inside().start)
        patch.setattr(pool, "_POLL", 0.0)
        yield


@pytest.fixture(scope="module", params=["mobile"])
def chain(
    request: pytest.FixtureRequest,
    make_config: Callable[[Path], dict[str, Any]],
    cli: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Chain]:
    """A calibrated table and a search within a bound on it, in a folder that no test may change."""
    root = tmp_path_factory.mktemp(request.param)
    config = make_config(root)
    config["space"] = {**SPACES[request.param], "channels": 2, "features": 4}
    config["train"] = {"channels": 2, "features": 4, "epochs": 1, "batch_size": 16}
    config["task"] = {**config["task"], "stem": "plain"}
    config["search"] = {**config["search"], "judge": 0.25, "epochs": 1}
    settings, table = [*flatten(config), "--threads", "1"], root / "table.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        few = ("--fitted", 4, "--held-out", 2, "--rounds", 2)
        timed = cli("calibrate", *settings, *few, "-o", table, "--quiet")
        assert timed.code == 0, timed.err
        bound = ("--budget.latency", "50s", "--budget.latency_table", table)
        found = cli("search", *settings, *bound, "--run.name", "search", "--quiet")
        assert found.code == 0, found.err
        yield Chain(root, settings, root / "search", table)


def test_what_is_kept_says_what_it_takes(chain: Chain) -> None:
    kept = Architecture.load(chain.search / "architecture.json")
    assert 0 < (kept.posterior or {})["costs"]["latency"] < 50_000


def test_a_bound_that_no_network_meets_is_refused(chain: Chain, cli: Callable[..., Any]) -> None:
    bound = ("--budget.latency", "1us", "--budget.latency_table", chain.table)
    outcome = cli("search", *chain.settings, *bound, "--run.name", "none", "--quiet")
    assert outcome.code == 2
    assert "budget.latency: no network of 2 channels in the stem has less than" in outcome.err


def test_searched_and_random_networks_are_raced(chain: Chain, cli: Callable[..., Any], tmp_path: Path) -> None:
    raced = cli("race", chain.search, "--run.root", tmp_path, "--run.name", "race", "--time", "1h", "--quiet")
    assert raced.code == 0, raced.err
    kept = Architecture.load(tmp_path / "race" / "architecture.json")
    assert kept.to_genotype()
    assert json.loads((tmp_path / "race" / "race.json").read_text())["origin"] in raced.out


@pytest.mark.parametrize(("chain", "cost"), [("macro", "parameters"), ("mobile", "latency")], indirect=["chain"])
def test_a_front_is_trained_by_each_cost(cost: str, chain: Chain, cli: Callable[..., Any], tmp_path: Path) -> None:
    where = ("--run.root", tmp_path, "--run.name", "front", "--epochs", 1, "--quiet")
    found = cli("pareto", chain.search, "--cost", cost, "--points", 2, "--random", 0, *where)
    assert found.code == 0, found.err
    assert len(list((tmp_path / "front" / "architectures").iterdir())) == 2


def test_it_is_trained_within_a_bound_exported_as_files_and_shown(
    chain: Chain, cli: Callable[..., Any], tmp_path: Path
) -> None:
    bound = ("--max-macs", "400k", "--run.root", tmp_path, "--run.name", "train", "--quiet")
    text = Architecture.load(chain.search / "architecture.json").to_genotype()
    trained = cli("train", text, *chain.settings, *bound)
    assert trained.code == 0, trained.err
    assert "channels, the most within 400,000 multiply-adds" in trained.out
    for name in ("network.onnx", "network.pt2"):
        assert cli("export", tmp_path / "train", tmp_path / name).code == 0
        assert (tmp_path / name).is_file()
    reported = cli("report", chain.search, tmp_path / "train", "-o", tmp_path / "report.html")
    assert reported.code == 0, reported.err
    assert cli("runs", "show", chain.search).code == 0
