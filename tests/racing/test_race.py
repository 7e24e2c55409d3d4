"""A whole race on tiny images: what takes part, what is kept, going on, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.inside import Inside

from datanas import Architecture, RaceResult, derive, race
from datanas.cli import main
from datanas.comparison import pool
from datanas.core.errors import ConfigError
from datanas.engine.budget import Budget, recorded
from datanas.engine.collapse import is_collapsed
from datanas.engine.config import resolve
from datanas.engine.search import search as search_alone
from datanas.engine.setup import build_space, load_task, select_device
from datanas.racing import candidates
from datanas.racing import race as race_module
from datanas.racing.candidates import Candidate, _Chosen, gather, most_promising, network_key
from datanas.racing.judged import free_sizes, recipe_of
from datanas.racing.plan import Pace
from datanas.racing.search import search
from datanas.samplers.derivation import Derivation
from datanas.spaces.macro import MacroSpace

SHORT = {"search.race.time": 3600.0, "search.race.candidates": 6, "search.race.processes": 2}


def recipe(images: Path, root: Path, name: str, **search_settings: Any) -> dict[str, Any]:
    return {
        "data": {"name": "npz", "root": str(images)},
        "task": {"stem": "cifar", "train_augment": {"cutout": 2}},
        "space": {"name": "conv_cell", "cells": 3, "channels": 2},
        "search": {
            "epochs": 2,
            "batch_size": 6,
            "judge": 0.25,
            "gap": {"children": 2, "examples": 6, "statistics_batches": 1},
            **search_settings,
        },
        "train": {"channels": 2, "cells": 3, "batch_size": 6, "auxiliary": False, "drop_path": 0.0},
        "run": {"root": str(root), "name": name},
        "threads": 1,
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def searched(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_alone(recipe(tiny_images, tmp_path_factory.mktemp("runs"), "searched"), quiet=True).path


@contextmanager
def quick() -> Iterator[None]:
    """Two rungs of few steps: rungs of tiny data would have to make their hundred. Trainings run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race_module, "make_plan", _two_rungs)
        patch.setattr(race_module, "measure_pace", lambda *_: Pace(6, 0.1, 1.0, 2))
        patch.setattr(pool, "_start", Inside().start)
        patch.setattr(pool, "_POLL", 0.0)
        yield


@pytest.fixture
def few_steps() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture(scope="module")
def raced(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> RaceResult:
    with quick():
        return race(searched, settings=[*SHORT.items(), *place(tmp_path_factory.mktemp("raced"))], quiet=True)


def place(root: Path) -> list[tuple[str, object]]:
    return [("run.root", str(root)), ("run.name", "race")]


def _two_rungs(*_: Any, **__: Any) -> Any:
    from datanas.racing.plan import Plan, rungs_of

    return Plan(rungs_of(6, 2), 1.0)


def test_the_pool_is_half_searched_half_random_live_and_without_twins(searched: Path) -> None:
    config = resolve(json.loads(json.dumps(_config(searched))))
    task = load_task(config, select_device(config))
    found = gather([searched], config, task, 12)
    assert len(found) == 12
    assert sum(candidate.is_searched for candidate in found) == 6
    assert found[0].origin == "searched: likeliest"
    assert {candidate.origin for candidate in found[6:]} == {"random", "random, prefiltered"}
    assert len({network_key(candidate.architecture) for candidate in found}) == 12
    assert not any(is_collapsed(candidate.architecture, build_space(config)) for candidate in found)


def test_where_networks_become_wider_the_likeliest_of_less_come_first(searched: Path) -> None:
    config = resolve(_config(searched), [("train.max_macs", 300_000)])
    found = gather([searched], config, load_task(config, select_device(config)), 6)
    origins = [candidate.origin for candidate in found if candidate.is_searched]
    smaller = [f"searched: likeliest within {share}% of its multiply-adds" for share in (60, 20)]
    assert origins == [*smaller, "searched: likeliest"]
    bounded = resolve(_config(searched), [("budget.macs", 1e15)])
    budget = Budget(bounded, recorded(bounded, searched))
    ops = [budget.costs(each.architecture)["macs"] - budget.tables["macs"].constant for each in found[:3]]
    assert 0 < ops[1] <= 0.2 * ops[2]
    assert ops[1] < ops[0] <= 0.6 * ops[2]
    bound = 0.6 * ops[2] + budget.tables["macs"].constant
    within = derive(searched, settings=[("budget.macs", bound)]).architecture
    first = most_promising(searched, build_space(config))
    assert first is not None
    assert within.digest == first.digest == found[0].architecture.digest
    assert (first.source or {})["origin"] == found[0].origin


def refuses_bounds(run: Path, **given: Any) -> Derivation:
    if given.get("settings"):
        raise ConfigError("budget: sampler other cannot choose within bounds")
    return derive(run, **given)


def ranks_by_accuracy(run: Path, **given: Any) -> Derivation:
    return replace(derive(run, **given), measure="accuracy")


@pytest.mark.parametrize("method", [refuses_bounds, ranks_by_accuracy])
def test_a_method_that_cannot_choose_within_bounds_has_none_of_less(
    searched: Path, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "derive", method)
    config = resolve(_config(searched), [("train.max_macs", 300_000)])
    found = gather([searched], config, load_task(config, select_device(config)), 6)
    assert found[0].origin == "searched: likeliest"
    assert sum(candidate.is_searched for candidate in found) == 3


def test_nothing_is_promising_where_all_have_collapsed(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "is_collapsed", lambda *_: True)
    assert most_promising(searched, build_space(resolve(_config(searched)))) is None


def test_none_is_smaller_than_a_cell_that_costs_less_than_what_all_have_alike(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Budget, "costs", lambda *_: {"macs": 1.0})
    likeliest = derive(searched).architecture
    assert list(candidates._smaller(searched, likeliest)) == []
    first = most_promising(searched, build_space(resolve(_config(searched))))
    assert first is not None
    assert first.digest == likeliest.digest


def test_codes_of_the_same_whole_network_are_one_candidate() -> None:
    chosen = _Chosen(MacroSpace(MacroSpace.Config()))
    codes = ["12002001", "12020010", "12020001", "12020010", "00000000"]
    chosen.add((Candidate(Architecture.from_genotype(code), "random") for code in codes), 4)
    assert [each.architecture.to_genotype() for each in chosen.candidates] == ["12002001", "00000000"]


def test_without_searched_cells_it_is_a_control_and_published_ones_come_on_request(searched: Path) -> None:
    config = resolve(_config(searched), [("search.race.searched", False), ("search.race.published", True)])
    found = gather([searched], config, load_task(config, select_device(config)), 8)
    assert not any(candidate.is_searched for candidate in found)
    assert sum(candidate.origin.startswith("published: ") for candidate in found) == 2


def _config(run: Path) -> dict[str, Any]:
    from datanas.engine.earlier_run import load_run_config

    return load_run_config(run).model_dump(mode="json")


def test_a_race_keeps_the_best_of_its_last_rung_and_says_what_that_means(searched: Path, raced: RaceResult) -> None:
    data = json.loads((raced.path / "race.json").read_text())
    assert [len(rung) for rung in data["rungs"]] == [6, 2]
    first, last = ({int(number): row["selection_score"] for number, row in rung.items()} for rung in data["rungs"])
    assert last[data["winner"]] == max(last.values())
    assert max(first, key=lambda number: first[number]) in last or list(first.values()).count(max(first.values())) > 1
    assert Architecture.load(raced.path / "architecture.json") == raced.architecture
    assert (raced.architecture.source or {})["origin"] == data["origin"]
    assert "examples such as the judge's" in raced.sentences[0]


def test_a_race_that_is_complete_says_the_same_again_and_trains_nothing(
    searched: Path, raced: RaceResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_start", lambda *_: pytest.fail("a training was started"))
    again = race(searched, settings=[*SHORT.items(), *place(raced.path.parent)], quiet=True)
    assert again.data == raced.data


def test_a_race_that_was_stopped_goes_on_with_what_was_trained(
    searched: Path, raced: RaceResult, tmp_path: Path, few_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, started = pool._start, list[pool.Command]()

    def stops(command: pool.Command, threads: int) -> Any:
        if len(started) == 3:
            raise KeyboardInterrupt
        started.append(command)
        return original(command, threads)

    monkeypatch.setattr(pool, "_start", stops)
    with pytest.raises(KeyboardInterrupt):
        race(searched, settings=[*SHORT.items(), *place(tmp_path)], quiet=True)
    monkeypatch.setattr(pool, "_start", original)
    result = race(resume=tmp_path / "race", quiet=True)
    assert result.data == raced.data
    assert result.architecture == raced.architecture


def test_a_search_that_chooses_by_race_keeps_the_winner_and_what_was_derived(
    tiny_images: Path, tmp_path: Path, few_steps: None
) -> None:
    settings = recipe(tiny_images, tmp_path, "chosen", choice="race", race={"candidates": 6, "time": 3600.0})
    found = search(settings, quiet=True)
    assert found.race is not None
    assert Architecture.load(found.path / "architecture.json") == found.race.architecture == found.architecture
    derived = Architecture.load(found.path / "likeliest.json")
    shutil.copy(found.path / "likeliest.json", found.path / "architecture.json")  # as after a kill in between
    again = search(settings, quiet=True)
    assert again.architecture == found.architecture
    assert Architecture.load(found.path / "likeliest.json") == derived
    assert main(["derive", str(found.path)]) == 0
    assert Architecture.load(found.path / "architecture.json") == found.architecture


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"race": {"time": 5.0}}, "are too few for 6 candidates and 17 epochs"),
        ({"race": {"time": 3600.0}, "judge": 0.05}, "are too few to judge by; at least 1,000 or a fifth are needed"),
    ],
)
def test_a_race_that_cannot_be_held_is_refused_before_its_search(
    settings: dict[str, Any], message: str, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race_module, "measure_pace", lambda *_: Pace(6, 0.1, 1.0, 2))
    with pytest.raises(ConfigError, match=message):
        search(recipe(tiny_images, tmp_path, "refused", **settings, choice="race"), quiet=True)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judge": 0.0}, "so none are left to judge by; search again with --search.choice race"),
        ({"judge": 0.05}, "are too few to judge by; at least 1,000 or a fifth are needed"),
    ],
)
def test_a_search_that_left_too_little_is_refused(
    settings: dict[str, Any], message: str, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = search_alone(recipe(tiny_images, tmp_path, "all", **{**settings, "epochs": 1}), quiet=True).path
    assert main(["race", str(run), "--time", "1h", "--run.name", "race"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "race").exists()


def test_runs_that_do_not_fit_each_other_or_are_none_are_refused(
    searched: Path, tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = recipe(tiny_images, tmp_path, "other", epochs=1)
    other["space"]["channels"] = 4
    path = search_alone(other, quiet=True).path
    for runs, message in [
        ([searched, path], "another space than"),
        ([tmp_path], "not a run folder"),
        ([], "a race needs the run folder of a search"),
    ]:
        assert main(["race", *map(str, runs)]) == 2
        assert message in capsys.readouterr().err


def test_an_unfinished_search_is_refused_with_how_to_go_on(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "half"
    shutil.copytree(searched, half)
    (half / "result.json").unlink()
    assert main(["race", str(half)]) == 2
    assert f"datanas search --resume {half}" in capsys.readouterr().err


def test_a_search_without_anything_on_the_way_is_refused(searched: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(searched, bare)
    (bare / "modes.json").unlink()
    shutil.rmtree(bare / "genotypes")
    with pytest.raises(ConfigError, match="nothing from the way of the search"):
        race(bare, settings=[*SHORT.items(), ("run.root", str(tmp_path))], quiet=True)


def test_too_short_a_time_is_refused_and_leaves_nothing(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["race", str(searched), "--time", "1s", "--run.root", str(tmp_path), "--run.name", "race"]) == 2
    assert "allow as much with --time" in capsys.readouterr().err
    assert not (tmp_path / "race").exists()


def test_a_time_that_is_said_frees_the_sizes_of_a_recipe() -> None:
    recipe: dict[str, Any] = {"search": {"race": {"candidates": 6, "epochs": 3, "processes": 1}}}
    free_sizes(recipe, {"search.race.time", "search.race.epochs"})
    assert recipe == {"search": {"race": {"epochs": 3, "processes": 1}}}
    free_sizes({"search": {}}, {"search.race.time"})  # nothing to free


def test_a_said_time_is_kept_to_whatever_the_recipe_of_the_search(searched: Path, tmp_path: Path) -> None:
    run = shutil.copytree(searched, tmp_path / "run")
    raw = yaml.safe_load((run / "config.yaml").read_text())
    raw["search"]["race"] |= {"candidates": 6, "epochs": 3}
    (run / "config.yaml").write_text(yaml.safe_dump(raw))
    assert recipe_of([run], []).search.race.epochs == 3
    for settings in ([("search.race.time", "20m")], {"search": {"race": {"time": "20m"}}}):
        given = recipe_of([run], settings).search.race
        assert (given.time, given.candidates, given.epochs) == (1200.0, None, None)


@pytest.mark.parametrize("time", ["5", "0s", "-1m", "soon"])
def test_a_time_without_sense_is_refused_with_its_form(
    searched: Path, time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["race", str(searched), f"--time={time}"]) == 2
    assert "such as 90s, 20m or 1.5h" in capsys.readouterr().err


def test_random_cells_race_without_a_search(
    tiny_images: Path, tmp_path: Path, few_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    own = recipe(tiny_images, tmp_path, "alone", judge=None)
    own["search"]["race"] = {"candidates": 6, "time": "1h", "searched": False}
    found = race(settings=own, quiet=True)
    assert found.data["origin"].startswith("random")
    assert not any("searched" in row[1] for row in found.rows[1:])
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(own))
    assert main(["race", "-c", str(file), "--no-searched", "--quiet"]) == 0  # goes on with it, which is complete
    capsys.readouterr()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "a race needs the run folder of a search"),
        (["--no-searched"], r"search\.race\.time: is required"),
        (["--no-searched", "--time", "5m", "--search.judge", "0"], "a race needs examples to judge by"),
    ],
)
def test_what_a_race_without_a_search_needs(
    given: list[str], message: str, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(tiny_images, tmp_path, "none", judge=None)))
    assert main(["race", "-c", str(file), "--quiet", *given]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_recipe_belongs_to_a_race_without_runs(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["race", str(searched), "-c", str(searched / "config.yaml")]) == 2
    assert "belongs to a race without runs" in capsys.readouterr().err
