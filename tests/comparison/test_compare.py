"""A tiny comparison from end to end; its runs are made inside this process, save in the last tests."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from tests import perplexing
from tests.inside import Inside
from tests.made_up_table import BEST, worth, write_table

from datanas.cli import main
from datanas.codes.architecture import Architecture
from datanas.codes.liveness import live_cell
from datanas.comparison import plan, pool
from datanas.comparison.compare import Comparison, compare
from datanas.comparison.config import resolve_comparison
from datanas.comparison.outcomes import Outcomes
from datanas.comparison.plan import Plan
from datanas.comparison.pool import Command
from datanas.comparison.stages import Stages
from datanas.core.cores import usable_cores
from datanas.core.durations import show_seconds
from datanas.core.errors import CheckpointError, ConfigError, Interrupted, RunInUseError
from datanas.core.settings import merge, read_yaml
from datanas.engine.config import resolve
from datanas.engine.random_cells import all_cells
from datanas.engine.search import SearchJob
from datanas.report.comparison import comparison_markdown, comparison_text
from datanas.runs import RunFolder

STEP, REST = 0.01, 0.01
"""What every step and every last measurement is said to take."""
METHODS, SEEDS = ("egs", "random"), (0, 1)
FLAT = {"name": "egs", "prior": {"children": 0}}
"""Without the start from scores, by which the kept cells would be the largest, alone in their size."""
SEARCHES = 2 * len(METHODS) * len(SEEDS)
CANDIDATES = 2 * len(SEEDS)


@pytest.fixture(scope="module")
def inside() -> Iterator[Inside]:
    with pytest.MonkeyPatch.context() as patch:
        found = Inside()
        patch.setattr(pool, "_start", found.start)
        patch.setattr(pool, "_POLL", 0.0)
        patch.setattr(plan, "measure_job", lambda job, device: (STEP, REST))
        yield found


@pytest.fixture(scope="module")
def recipe(make_config: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("comparison")
    base = make_config(root)
    del base["run"]
    base["space"] = {"name": "nasbench201", "channels": 2}
    base["task"]["stem"] = "plain"
    base["truth"] = {"table": str(write_table(root / "table.npz"))}
    base["train"] |= {"channels": 2, "validate_every": 1}
    few = {"derivation": {"candidates": 4}}
    return {
        "base": base,
        "methods": {"egs": {"sampler": FLAT}, "random": {"sampler": {"name": "random", **few}}},
        "seeds": list(SEEDS),
        "budget": {"steps": 5},
        "controls": {"random_cells": 30, "same_size": 10, "best_of": 2},
        "processes": usable_cores(),  # so that each has one thread
        "run": {"root": str(root / "runs"), "name": "tiny"},
    }


class Finished(NamedTuple):
    result: Comparison
    stages: Stages
    started: list[str]

    @property
    def rows(self) -> dict[str, Any]:
        return {row["name"]: row for row in self.result.data["rows"]}


@pytest.fixture(scope="module")
def finished(inside: Inside, recipe: dict[str, Any]) -> Finished:
    """Only to be read."""
    inside.started.clear()
    result = compare(recipe, quiet=True)
    stages = stages_of(result.path)
    return Finished(result, stages, list(inside.started))


@pytest.fixture
def copy(finished: Finished, tmp_path: Path, inside: Inside) -> Path:
    """A copy of the finished comparison, to go on with."""
    inside.started.clear()
    inside.stop_after = None
    return Path(shutil.copytree(finished.result.path, tmp_path / "copy"))


def stages_of(path: Path) -> Stages:
    return Stages(
        resolve_comparison(path / "config.yaml"), Plan.from_json(json.loads((path / "plan.json").read_text())), path
    )


def timeless(data: Mapping[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock or on this process's memory."""
    rows = [
        {
            **row,
            "seeds": {
                seed: {key: value for key, value in run.items() if key not in ("seconds", "memory")}
                for seed, run in row["seeds"].items()
            },
        }
        for row in data["rows"]
    ]
    return {**data, "rows": rows}


def test_every_search_runs_seed_by_seed_and_then_the_candidates(finished: Finished) -> None:
    searches = [f"{kind}/{name}/seed-{seed}" for seed in SEEDS for kind in ("searches", "shuffled") for name in METHODS]
    candidates = [f"candidates/seed-{seed}/cell-{number}" for seed in SEEDS for number in range(2)]
    assert finished.started == searches + candidates


def test_the_plan_is_whole_epochs_of_the_budget(finished: Finished) -> None:
    """Five steps at three an epoch are two epochs; the candidates take together what a search takes on average."""
    found = json.loads((finished.result.path / "plan.json").read_text())
    seconds = 6 * STEP + REST
    length = {"epochs": 2, "steps": 6, "seconds": pytest.approx(seconds)}
    assert found["methods"] == {"egs": length, "random": length}
    # 24 of the 48 images are trained on, 16 a batch: one step an epoch.
    assert found["best_of"]["epochs"] == math.floor((seconds / 2 - REST) / STEP) == 2
    assert (found["budget"], found["seeds"]) == ({"steps": 5, "seconds": None}, list(SEEDS))


def test_the_runs_are_those_of_the_plan(finished: Finished) -> None:
    for name in METHODS:
        for seed in SEEDS:
            for shuffled in (False, True):
                config = resolve(finished.stages.search_folder(name, seed, shuffled=shuffled) / "config.yaml")
                assert (config.seed, config.search.epochs, config.search.gap.every) == (seed, 2, 2)
                assert config.search.shuffled_labels == shuffled
                assert config.sampler.name == name


def test_the_candidates_train_on_the_searches_share_and_leave_the_test_set_alone(finished: Finished) -> None:
    for seed in SEEDS:
        for number in range(2):
            path = finished.stages.candidate_folder(seed, number)
            config = resolve(path / "config.yaml")
            assert (config.seed, config.train.parts, config.train.test) == (seed, "search", False)
            assert json.loads((path / "evaluation.json").read_text())["part"] == "alpha"


def test_the_file_holds_what_was_returned(finished: Finished) -> None:
    written = json.loads((finished.result.path / "comparison.json").read_text())
    assert written == json.loads(json.dumps(finished.result.data))
    assert written["winner"]["text"] == finished.result.verdict
    assert [row["name"] for row in written["rows"]] == [*METHODS, "random cells", "best of random"]
    assert [row["kind"] for row in written["rows"]] == ["method"] * 2 + ["control"] * 2
    assert written["metric"] == "test_acc/made-up"
    assert written["budget"] == {"kind": "steps", "value": 6, "asked": 5}
    assert "Budget of each: 6 steps, the whole epochs nearest to the 5 asked for" in comparison_text(written)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_method_s_figures_are_its_run_s_and_the_table_s(finished: Finished, name: str, seed: int) -> None:
    figures = finished.rows[name]["seeds"][str(seed)]
    path = finished.stages.search_folder(name, seed)
    kept, result = Architecture.load(path / "architecture.json"), json.loads((path / "result.json").read_text())
    assert figures["score"] == pytest.approx(worth(kept))
    assert figures["score"] == pytest.approx(result["truth"]["value"])
    assert figures["architecture"] == kept.to_genotype()
    for key in ("expected", "percentile"):
        assert figures[key] == result["truth"][key]
    assert (figures["seconds"], figures["memory"]) == (result["seconds"], result["peak_memory"])
    assert {key: figures[key] for key in ("parameters", "macs", "operations")} == result["kept"]
    assert figures["search_score"] == result["gap"]["child"]
    operations = int(live_cell(kept.cells["cell"]).code.sum())
    assert figures["operations"] == operations
    assert figures["sparsity"] == pytest.approx(1 - operations / 24)
    assert figures["collapsed"] == any("collapse" in line or "collapsing" in line for line in result["warnings"])
    shuffled = finished.stages.search_folder(name, seed, shuffled=True)
    assert figures["shuffled_score"] == pytest.approx(worth(Architecture.load(shuffled / "architecture.json")))


def test_a_row_s_mean_is_that_of_its_seeds(finished: Finished) -> None:
    for row in finished.result.data["rows"]:
        scores = [row["seeds"][str(seed)]["score"] for seed in SEEDS]
        assert row["mean"] == pytest.approx(mean(scores))
        reference = finished.rows["random cells"]
        if row is not reference:
            assert row["difference"]["mean"] == pytest.approx(row["mean"] - reference["mean"])


def test_random_cells_score_what_the_table_says_of_them(finished: Finished) -> None:
    seen = []
    for seed in SEEDS:
        cells = finished.stages.random_cells("random", seed, 30)
        figures = finished.rows["random cells"]["seeds"][str(seed)]
        assert figures["score"] == pytest.approx(mean(worth(cell) for cell in cells))
        assert figures["parameters"] == pytest.approx(mean(finished.stages.parameters(cell) for cell in cells))
        seen.append({cell.to_genotype() for cell in cells})
    assert seen[0] != seen[1]


def test_random_cells_are_uniform(finished: Finished) -> None:
    """Each of the five operations on each of the six edges about a fifth of the time."""
    codes = np.stack([cell.cells["cell"].code for cell in finished.stages.random_cells("random", 0, 3000)])
    shares = codes.mean(axis=0)[:, 1:]  # of `none` nothing is kept in a code
    assert np.abs(shares - 0.2).max() < 5 * (0.2 * 0.8 / 3000) ** 0.5


@pytest.mark.parametrize("name", METHODS)
def test_same_size_cells_are_nearer_in_parameters_than_others(finished: Finished, name: str) -> None:
    stages = finished.stages
    for seed in SEEDS:
        kept = stages.searched(name, seed)
        assert kept is not None
        cells = stages.same_size_cells(name, seed, kept)
        size = stages.parameters(kept)
        everywhere = [abs(stages.parameters(cell) - size) for cell in stages.random_cells("random", seed, 300)]
        assert 0 < len(cells) <= 10
        assert kept not in cells
        assert len(set(cells)) == len(cells)
        for cell in cells:
            assert abs(stages.parameters(cell) - size) <= 0.05 * size < mean(everywhere)
        score = finished.rows[name]["seeds"][str(seed)]["same_size_score"]
        assert score == pytest.approx(mean(worth(cell) for cell in cells))


def test_same_size_cells_are_the_nearest_and_chosen_among_equals_by_the_seed(finished: Finished) -> None:
    stages = finished.stages
    kept = stages.random_cells("test", 0, 1)[0]
    size = stages.parameters(kept)
    first, other = (stages.same_size_cells("egs", seed, kept) for seed in SEEDS)
    equal = sum(stages.parameters(cell) == size for cell in all_cells(plan.training(stages.recipe, 0), 20_000))
    for cells in (first, other):
        assert sum(stages.parameters(cell) == size for cell in cells) == min(10, equal - 1)
    assert equal < 11 or first != other
    assert stages.same_size_cells("egs", 0, kept) == first


def test_parameters_are_those_that_a_search_counts(finished: Finished) -> None:
    for name in METHODS:
        path = finished.stages.search_folder(name, 0)
        kept = Architecture.load(path / "architecture.json")
        counted = json.loads((path / "result.json").read_text())["kept"]["parameters"]
        assert finished.stages.parameters(kept) == counted


def test_the_best_of_random_is_chosen_without_the_table(finished: Finished) -> None:
    for seed in SEEDS:
        folders = [finished.stages.candidate_folder(seed, number) for number in range(2)]
        scores = [json.loads((path / "evaluation.json").read_text())["score"] for path in folders]
        best = Architecture.load(folders[scores.index(max(scores))] / "architecture.json")
        figures = finished.rows["best of random"]["seeds"][str(seed)]
        assert figures["score"] == pytest.approx(worth(best))
        assert figures["parameters"] == finished.stages.parameters(best)
        cells = finished.stages.random_cells("best_of", seed, 2)
        assert [Architecture.load(path / "architecture.json") for path in folders] == cells


def test_the_better_candidate_wins_whichever_it_is(copy: Path) -> None:
    stages = stages_of(copy)
    for winner in (0, 1):
        for number in (0, 1):
            file = stages.candidate_folder(0, number) / "evaluation.json"
            file.write_text(json.dumps({"score": 0.9 if number == winner else 0.1}))
        assert stages.best_candidate(0) == stages.random_cells("best_of", 0, 2)[winner]
    (stages.candidate_folder(0, 1) / "evaluation.json").unlink()
    assert stages.best_candidate(0) is None


def test_no_cell_is_above_the_table_s_best(finished: Finished) -> None:
    for row in finished.result.data["rows"]:
        for figures in row["seeds"].values():
            assert 20 <= figures["score"] <= BEST
            assert 0 < figures["percentile"] <= 100


def test_a_finished_comparison_runs_nothing_again(copy: Path, finished: Finished, inside: Inside) -> None:
    again = compare(resume=copy, quiet=True)
    assert inside.started == []
    assert again.data == finished.result.data


def test_the_same_recipe_again_goes_on_by_its_name(recipe: dict[str, Any], finished: Finished, inside: Inside) -> None:
    inside.started.clear()
    again = compare(recipe, quiet=True)
    assert (again.path, inside.started) == (finished.result.path, [])
    assert again.data == finished.result.data


def test_going_on_runs_only_what_is_missing_and_a_signal_stops_it_between(
    copy: Path, finished: Finished, inside: Inside
) -> None:
    stages = stages_of(copy)
    missing = [stages.search_folder("random", 0, shuffled=True), stages.search_folder("egs", 1)]
    missing += [stages.search_folder("random", 1), stages.candidate_folder(1, 1)]
    for path in missing:
        shutil.rmtree(path)
    inside.stop_after = 2
    with pytest.raises(Interrupted) as caught:
        compare(resume=copy, quiet=True)
    inside.stop_after = None
    assert caught.value.exit_code == 143
    assert len(inside.started) == 2
    again = compare(resume=copy, quiet=True)
    assert inside.started == [str(path.relative_to(copy)) for path in missing]
    assert timeless(again.data) == timeless(finished.result.data)


def test_the_plan_is_written_before_the_first_run_and_never_made_again(
    recipe: dict[str, Any], inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**recipe, "run": {"root": str(tmp_path), "name": "planned"}}
    seen: list[str] = []

    def look(command: Command, threads: int) -> Any:
        seen.append((tmp_path / "planned" / "plan.json").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "_start", look)
    for step in (STEP, 7 * STEP):
        monkeypatch.setattr(plan, "measure_job", lambda job, device, step=step: (step, REST))
        with pytest.raises(KeyboardInterrupt):
            compare(settings, quiet=True)
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_seconds_become_epochs_by_a_measurement(recipe: dict[str, Any], inside: Inside) -> None:
    """Two epochs of three steps and the last measurement fit into 0.08 s, three do not."""
    found = plan.make_plan(resolve_comparison({**recipe, "budget": {"seconds": 0.0801}}))
    assert {name: (length.epochs, length.steps) for name, length in found.methods.items()} == dict.fromkeys(
        METHODS, (2, 6)
    )
    with pytest.raises(ConfigError, match=r"^budget\.seconds: 0\.035 are too few"):
        plan.make_plan(resolve_comparison({**recipe, "budget": {"seconds": 0.035}}))


def test_a_budget_of_steps_without_candidates_measures_nothing(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "measure_job", lambda job, device: pytest.fail("measured"))
    found = plan.make_plan(resolve_comparison({**recipe, "controls": {"best_of": 0}}))
    assert found.best_of is None
    assert [length.seconds for length in found.methods.values()] == [None, None]
    with pytest.raises(pytest.fail.Exception, match="measured"):
        plan.make_plan(resolve_comparison({**recipe, "controls": {"best_of": 0}}), timed=True)


@pytest.mark.parametrize(
    ("budget", "told"),
    [({"steps": 6}, {"kind": "steps", "value": 6}), ({"seconds": 0.0801}, {"kind": "seconds", "value": 0.0801})],
)
def test_a_budget_that_is_kept_is_told_as_it_was_asked_for(
    budget: dict[str, Any], told: dict[str, Any], recipe: dict[str, Any], inside: Inside, tmp_path: Path
) -> None:
    settings = resolve_comparison({**recipe, "budget": budget, "controls": {"random_cells": 1, "same_size": 0}})
    made = plan.make_plan(settings)
    assert Outcomes(settings, made, Stages(settings, made, tmp_path), {}).data()["budget"] == told


def test_trainings_from_scratch_are_timed_for_a_dry_run(
    recipe: dict[str, Any], inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other epoch of five is measured, and the last: three times."""

    def measure(job: Any, device: Any) -> tuple[float, float]:
        return (1.0, 10.0) if isinstance(job, SearchJob) else (20.0, 300.0)

    monkeypatch.setattr(plan, "measure_job", measure)
    base = {**recipe["base"], "train": {**recipe["base"]["train"], "epochs": 5, "validate_every": 2}}
    del base["truth"]
    controls = {"same_size": 3, "random_cells": 2, "best_of": 0}
    config = resolve_comparison({**recipe, "base": base, "controls": controls, "retrain": True, "processes": 2})
    found = plan.make_plan(config, timed=True)
    steps = 5 * 3  # 48 images, 16 a batch
    seconds = steps * 20.0 + 3 * 300.0
    assert found.retrained == plan.Length(5, steps, seconds)
    # Two seeds, each: of both methods the cell, three of its size and that of shuffled labels; two random ones.
    assert config.most_trainings == 2 * (2 * 5 + 2)
    total = 2 * SEARCHES // 2 * (6 * 1.0 + 10.0) + config.most_trainings * seconds
    lines = [" ".join(line.split()) for line in found.text(config).splitlines()]
    assert lines[2:] == [
        f"retrained up to 24 trainings of 5 epochs, 15 steps, about {seconds:.0f} s",
        f"about {show_seconds(total / 2)} with 2 runs at a time",
    ]
    assert plan.make_plan(config).retrained is None
    assert Plan.from_json(found.to_json()).retrained is None


@pytest.mark.parametrize(
    ("controls", "each"),
    [
        ({}, 2 * 2 + 1),
        ({"same_size": 2}, 2 * 4 + 1),
        ({"best_of": 2}, 2 * 2 + 2),
    ],
)
def test_the_trainings_that_are_announced_are_those_that_are_made(
    controls: dict[str, Any], each: int, recipe: dict[str, Any], finished: Finished
) -> None:
    base = {key: value for key, value in recipe["base"].items() if key != "truth"}
    config = resolve_comparison({**recipe, "base": base, "controls": controls, "retrain": True})
    assert config.most_trainings == 2 * each
    stages = Stages(config, finished.stages.plan, finished.result.path)
    if not config.controls.best_of:
        stages.plan = replace(stages.plan, best_of=None)
    assert len(list(stages.cells())) == config.most_trainings
    unshuffled = {**controls, "shuffled_labels": False}
    assert resolve_comparison(config, [("controls", unshuffled)]).most_trainings == 2 * (each - 2)


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({"seeds": [0, 2]}, "seeds: [0, 1] in the comparison, [0, 2] now"),
        ({"budget": {"steps": 7}}, "budget.steps: 5 in the comparison, 7 now"),
        ({"base": {"search": {"epochs": 3}}}, "base.search.epochs: 2 in the comparison, 3 now"),
        ({"methods": {"darts": {}}}, "methods.darts"),
    ],
)
def test_another_recipe_is_refused(
    over: dict[str, Any], line: str, recipe: dict[str, Any], copy: Path, inside: Inside, tmp_path: Path
) -> None:
    changed = merge(recipe, over)
    if "methods" in over:
        changed["methods"]["darts"] = {"sampler": {"name": "darts"}}
    with pytest.raises(ConfigError) as caught:
        compare(changed, resume=copy, quiet=True)
    assert str(caught.value).startswith(line)
    assert str(copy) in str(caught.value)
    assert inside.started == []
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(changed))
    assert main(["compare", "-c", str(file), "--resume", str(copy), "--quiet"]) == 2


def test_a_held_folder_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder.open(copy):
        with pytest.raises(RunInUseError):
            compare(resume=copy, quiet=True)
        assert main(["compare", "--resume", str(copy), "--quiet"]) == 7
    assert "error: " in capsys.readouterr().err
    compare(resume=copy, quiet=True)  # and is free again


def test_a_folder_that_is_no_comparison_is_refused(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a comparison"):
        compare(resume=tmp_path)
    with pytest.raises(CheckpointError, match="a compare run is needed, this is a search run"):
        compare(finished.result.path / "config.yaml", resume=finished.stages.search_folder("egs", 0), quiet=True)
    with pytest.raises(TypeError, match="needs a recipe"):
        compare()


def test_a_method_that_fails_is_told_and_the_others_go_on(
    recipe: dict[str, Any], inside: Inside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weight of its constraint makes the loss infinite."""
    inside.started.clear()
    settings = {
        **recipe,
        "methods": {
            "random": recipe["methods"]["random"],
            "bad": {"sampler": {"name": "egs", "constraint": {"gamma": 3e38}}},
        },
        "controls": {"random_cells": 30, "same_size": 10, "shuffled_labels": False},
        "run": {"root": str(tmp_path), "name": "failing"},
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert main(["compare", "-c", str(file)]) == 0
    printed = capsys.readouterr()
    assert len(inside.started) == 4
    data = json.loads((tmp_path / "failing" / "comparison.json").read_text())
    rows = {row["name"]: row for row in data["rows"]}
    for seed in SEEDS:
        assert rows["bad"]["seeds"][str(seed)]["failed"].startswith("exit code 4: ")
        assert rows["random"]["seeds"][str(seed)]["score"] > 0
        assert "failed" not in rows["random"]["seeds"][str(seed)]
    assert rows["bad"]["mean"] is None
    assert data["winner"]["best"] == "random"
    assert not data["winner"]["decided"]
    assert "Failed: bad 2/2." in printed.out
    assert "searches/bad/seed-0 failed: exit code 4: " in printed.err
    with (tmp_path / "failing" / "table.csv").open() as table:
        lines = [line for line in csv.DictReader(table) if line["name"] == "bad"]
    assert [line["failed"][:11] for line in lines] == ["exit code 4"] * 2
    # Going on tries what failed once more, and nothing else.
    inside.started.clear()
    assert main(["compare", "--resume", str(tmp_path / "failing"), "--quiet"]) == 0
    assert inside.started == ["searches/bad/seed-0", "searches/bad/seed-1"]


def test_without_a_table_what_counts_is_trained_from_scratch(
    recipe: dict[str, Any], inside: Inside, tmp_path: Path
) -> None:
    inside.started.clear()
    base = {**recipe["base"], "train": {**recipe["base"]["train"], "epochs": 1}}
    del base["truth"]
    settings = {
        **recipe,
        "base": base,
        "methods": {"egs": recipe["methods"]["egs"]},
        "seeds": [3],
        "controls": {"same_size": 1},
        "retrain": True,
        "run": {"root": str(tmp_path), "name": "trained"},
    }
    result = compare(settings, quiet=True)
    rows = ("egs", "egs-same-size", "egs-shuffled", "random-cells")
    folders = {row: result.path / "trainings" / row / "seed-3-0" for row in rows}
    assert inside.started[2:] == [str(path.relative_to(result.path)) for path in folders.values()]
    found = {row: json.loads((path / "evaluation.json").read_text()) for row, path in folders.items()}
    assert {each["part"] for each in found.values()} == {"test"}
    method, control = result.data["rows"]
    figures = method["seeds"]["3"]
    assert figures["score"] == pytest.approx(100 * found["egs"]["score"])
    assert figures["same_size_score"] == pytest.approx(100 * found["egs-same-size"]["score"])
    assert figures["shuffled_score"] == pytest.approx(100 * found["egs-shuffled"]["score"])
    assert control["seeds"]["3"]["score"] == pytest.approx(100 * found["random-cells"]["score"])
    assert (figures["expected"], figures["percentile"]) == (None, None)
    assert result.data["metric"] == "test score"
    config = resolve(folders["egs"] / "config.yaml")
    assert (config.seed, config.train.test, config.train.validation) == (3, True, 0.0)


def test_where_less_is_better_the_lower_scores_win(recipe: dict[str, Any], inside: Inside, tmp_path: Path) -> None:
    """Raw scores in the table; the direction is written down, and heeded by the choice of the best candidate."""
    with perplexing.known():
        base = {**recipe["base"], "task": {**recipe["base"]["task"], "name": "perplexing"}}
        base["train"] = {**base["train"], "epochs": 1, "average_after": None}
        del base["truth"]
        settings = {
            **recipe,
            "base": base,
            "methods": {"egs": recipe["methods"]["egs"]},
            "seeds": [3],
            "controls": {"shuffled_labels": False, "best_of": 2},
            "retrain": True,
            "run": {"root": str(tmp_path), "name": "perplexing"},
        }
        result = compare(settings, quiet=True)
        data, stages = result.data, stages_of(result.path)
        assert (data["metric"], data["unit"], data["higher_is_better"]) == ("test perplexity", None, False)
        for row, name in (("egs", "egs"), ("random cells", "random-cells")):
            file = result.path / "trainings" / name / "seed-3-0" / "evaluation.json"
            found = next(each for each in data["rows"] if each["name"] == row)
            assert found["seeds"]["3"]["score"] == json.loads(file.read_text())["score"] > 1
        for winner in (0, 1):
            for number in (0, 1):
                file = stages.candidate_folder(3, number) / "evaluation.json"
                file.write_text(json.dumps({"score": 50.0 if number == winner else 90.0}))
            assert stages.best_candidate(3) == stages.random_cells("best_of", 3, 2)[winner]
        text = comparison_text(data)
        assert "test perplexity by method" in text
        assert "Lower is better" in comparison_markdown(data)


def test_pictures_and_tables_are_written_and_the_verdict_printed(
    copy: Path, finished: Finished, inside: Inside, capsys: pytest.CaptureFixture[str]
) -> None:
    """And another number of processes is no other comparison."""
    assert main(["compare", "--resume", str(copy), "--processes", "1", "--quiet"]) == 0
    assert inside.started == []
    printed = capsys.readouterr()
    assert finished.result.verdict.split(" (")[0] in " ".join(printed.out.split())
    assert printed.err == ""
    for name in ("table.md", "table.csv", "comparison.svg", "comparison.png", "comparison.json"):
        assert (copy / name).stat().st_size > 0
    assert list(map(int, read_yaml(copy / "config.yaml")["seeds"])) == list(SEEDS)


PLUGIN = """
from typing import Literal
from datanas.samplers import register_sampler
from datanas.samplers.egs import EGS

@register_sampler("unlucky")
class Unlucky(EGS):
    class Config(EGS.Config):
        name: Literal["unlucky"] = "unlucky"

    def loss(self, task_loss, draw, progress):
        raise RuntimeError("out of luck")
"""


def by_command_line(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "datanas", "compare", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_command_with_processes_of_its_own(recipe: dict[str, Any], finished: Finished, tmp_path: Path) -> None:
    """A plugin's method that raises fails; the others find what they find inside this process; a second is locked out,
    and SIGTERM is survived."""
    plugin = tmp_path / "unlucky.py"
    plugin.write_text(PLUGIN)
    settings = {
        **recipe,
        "base": {**recipe["base"], "plugins": [str(plugin)]},
        "methods": {"unlucky": None, **recipe["methods"]},
        "controls": {**recipe["controls"], "shuffled_labels": False, "best_of": 0},
        "run": {"root": str(tmp_path / "runs"), "name": "real"},
        "processes": 2,
    }
    file, run = tmp_path / "recipe.yaml", tmp_path / "runs" / "real"
    file.write_text(yaml.safe_dump(settings))
    first = by_command_line("-c", file)
    assert first.stderr is not None
    while "1/6" not in (line := first.stderr.readline()):
        assert line, "ended without a run"
    first.send_signal(signal.SIGSTOP)  # or it might end while the second starts
    second = by_command_line("-c", file)
    assert second.wait(60) == 7
    first.send_signal(signal.SIGCONT)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 143
    third = by_command_line("--resume", run)
    out, err = third.communicate(timeout=200)
    assert third.returncode == 0, err
    assert "Failed: unlucky 2/2." in out
    rows = {row["name"]: row for row in json.loads((run / "comparison.json").read_text())["rows"]}
    for seed in map(str, SEEDS):
        assert rows["unlucky"]["seeds"][seed]["failed"] == "exit code 1: internal error: RuntimeError: out of luck"
        for name in METHODS:
            found, inside = rows[name]["seeds"][seed], finished.rows[name]["seeds"][seed]
            assert (found["architecture"], found["score"]) == (inside["architecture"], inside["score"])
