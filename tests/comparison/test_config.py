"""The recipe of a comparison: its forms, its rules, and what makes two of them the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from datanas.comparison import config as comparison_config
from datanas.comparison.config import CompareConfig, resolve_comparison
from datanas.core.cores import usable_cores
from datanas.core.errors import ConfigError
from datanas.core.settings import parse_yaml
from datanas.engine.config import resolve


def recipe(**over: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "base": {"sampler": {"name": "egs", "samples": 3}, "truth": {"table": "table.npz"}, "search": {"epochs": 4}},
        "methods": {"egs": None},
        "seeds": [0, 1],
        "budget": {"steps": 6},
    }
    return {**found, **over}


def test_a_list_of_names_is_a_sampler_each() -> None:
    config = resolve_comparison(recipe(methods=["egs", "random"]))
    assert config.methods == {name: {"sampler": {"name": name}} for name in ("egs", "random")}


def test_a_mapping_gives_settings_and_null_is_the_sampler_of_that_name() -> None:
    config = resolve_comparison(
        recipe(methods={"gdas": None, "slow": {"sampler": "egs", "search": {"alpha": {"lr": 0.25}}}})
    )
    assert config.method("gdas", 0).sampler.name == "gdas"
    slow = config.method("slow", 0)
    assert slow.search.alpha.lr == 0.25
    assert slow.search.epochs == 4  # the rest is base's


def test_a_sampler_section_replaces_that_of_base() -> None:
    """Base's `samples` would be no setting of darts."""
    config = resolve_comparison(recipe(methods={"own": {"sampler": {"name": "egs"}}, "darts": None}))
    assert vars(config.method("own", 0).sampler)["samples"] != 3
    assert config.method("darts", 0).sampler.name == "darts"


def test_a_method_gets_its_seed_threads_and_changes() -> None:
    config = resolve_comparison(recipe(processes=1))
    found = config.method("egs", 1, {"search": {"epochs": 9}})
    assert (found.seed, found.threads, found.search.epochs) == (1, usable_cores(), 9)


def test_base_may_be_a_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("truth: {table: table.npz}\nsearch: {epochs: 7}\n")
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(recipe(base="search.yaml")))
    config = resolve_comparison(tmp_path / "compare.yaml")
    assert config.method("egs", 0).search.epochs == 7
    with pytest.raises(ConfigError, match=r"gone\.yaml: No such file"):
        resolve_comparison(tmp_path / "compare.yaml", [("base", "gone.yaml")])


def test_settings_are_laid_over_a_base_in_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("truth: {table: table.npz}\nsearch: {epochs: 7, batch_size: 8}\n")
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(recipe(base="search.yaml")))
    config = resolve_comparison(tmp_path / "compare.yaml", [("base.search.epochs", 2), ("budget.steps", 9)])
    found = config.method("egs", 0).search
    assert (found.epochs, found.batch_size, config.budget.steps) == (2, 8, 9)


@pytest.mark.parametrize("name", ["egs", "egs_l1", "a.b", "x+y", "0-1"])
def test_a_name_that_can_be_a_folder(name: str) -> None:
    methods = {name: {"sampler": "egs"}}
    assert resolve_comparison(recipe(methods=methods)).methods == methods


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a b", "-x", "é", "random-cells", "best-of-random"])
def test_a_name_that_cannot(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^methods: a name must "):
        resolve_comparison(recipe(methods={name: {"sampler": "egs"}}))


@pytest.mark.parametrize("row", ["same-size", "shuffled"])
def test_a_name_whose_trainings_would_stand_where_another_s_controls_do(row: str) -> None:
    resolve_comparison(recipe(methods={f"other-{row}": {"sampler": "egs"}, "egs": None}))
    with pytest.raises(ConfigError, match=f"a control's folder, got 'egs-{row}'"):
        resolve_comparison(recipe(methods={f"egs-{row}": {"sampler": "egs"}, "egs": None}))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"methods": []}, r"^methods: "),
        ({"methods": "egs"}, r"^methods: "),
        ({"methods": {"egs": 3}}, r"^methods\.egs: "),
        ({"methods": [{"egs": {}}]}, r"^methods: a list must hold names, .* got \{'egs': \{\}\}$"),
        ({"methods": ["egs", "egs"]}, r"^methods: a list must hold names, each once; .* got 'egs'$"),
        ({"seeds": [0, 1, 0]}, r"^seeds: must be different whole numbers of at least 0, got \[0, 1, 0\]$"),
        ({"seeds": [-1]}, r"^seeds: must be different"),
        ({"seeds": []}, r"^seeds: "),
        ({"budget": {}}, r"^budget: needs either steps or seconds"),
        ({"budget": {"steps": 6, "seconds": 1.0}}, r"^budget: needs either steps or seconds"),
        ({"budget": {"steps": 0}}, r"^budget\.steps: must be at least 1, got 0$"),
        ({"budget": {"seconds": 0}}, r"^budget\.seconds: must be greater than 0"),
        ({"controls": {"best_off": 2}}, r"^controls\.best_off: unknown key; did you mean 'best_of'\?$"),
        ({"controls": {"random_cells": 0}}, r"^controls\.random_cells: must be at least 1"),
        ({"confidence": 1}, r"^confidence: must be less than 1"),
        ({"methods": {"egs": {}}}, r"^methods: egs: needs a sampler"),
        ({"methods": {"egs": {"sampler": "egs", "search": {"epochs": 3}}}}, r"search\.epochs must be the same for all"),
        ({"methods": {"egs": {"sampler": "egs", "data": {"name": "npz"}}}}, r"data\.name must be the same for all"),
        ({"methods": {"egs": {"sampler": "egs", "seed": 3}}}, r"seed must be the same for all"),
        ({"ablations": ["ges"]}, r"did you mean 'egs'\?, got 'ges'$"),
        ({"retrian": True}, r"^retrian: unknown key; did you mean 'retrain'\?$"),
        ({"base": 5}, r"^base: "),
        ({"base": {}}, r"^a comparison needs one outside truth: .*neither is given$"),
        ({"base": {"truth": None}}, r"^methods\.egs: truth: "),
        ({"base": {"truth": "table.npz"}}, r"^methods\.egs: truth: "),
        ({"retrain": True}, r"^a comparison needs one outside truth: .*both are given$"),
    ],
)
def test_a_recipe_that_is_refused(over: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_comparison(recipe(**over))


@pytest.mark.parametrize("missing", ["base", "methods", "budget"])
def test_what_a_recipe_must_have(missing: str) -> None:
    raw = recipe()
    del raw[missing]
    with pytest.raises(ConfigError, match=f"^{missing}: is required$"):
        resolve_comparison(raw)


def test_each_truth_alone_will_do() -> None:
    assert resolve_comparison(recipe()).has_table
    assert not resolve_comparison(recipe(base={}, retrain=True)).has_table


def test_each_fault_names_its_method() -> None:
    methods = {
        "gda": None,
        "good": {"sampler": "egs"},
        "bad": {"sampler": {"name": "egs", "samples": 0, "tua": 1}},
        "unrolled": {"sampler": {"name": "random"}, "search": {"hypergradient": "unrolled"}},
    }
    with pytest.raises(ConfigError) as caught:
        resolve_comparison(recipe(methods=methods))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert lines[0] == "methods.gda: sampler.name: unknown sampler 'gda'; did you mean 'gdas'?"
    assert {line.partition(" must")[0].partition(" unknown")[0] for line in lines[1:3]} == {
        "methods.bad: sampler.samples:",
        "methods.bad: sampler.tua:",
    }
    assert lines[3].startswith("methods.unrolled: search.hypergradient: unrolled ")


def test_a_recipe_reads_back_as_it_was_written() -> None:
    config = resolve_comparison(
        recipe(
            methods={"egs": None, "darts": {"sampler": "darts", "search": {"alpha": {"betas": [0.5, 0.9]}}}},
            controls={"best_of": 2, "same_size": 0},
            confidence=0.9,
            run={"name": "x"},
        )
    )
    assert resolve_comparison(parse_yaml(config.to_yaml())) == config
    assert resolve_comparison(config) == config
    assert isinstance(config, CompareConfig)


def test_the_substance_leaves_out_where_and_how() -> None:
    plain = resolve_comparison(recipe()).substance()
    elsewhere = resolve_comparison(recipe(processes=1, run={"root": "elsewhere", "name": "x"}))
    assert elsewhere.substance() == plain
    for other in ({"seeds": [0]}, {"budget": {"steps": 7}}, {"controls": {"best_of": 2}}, {"confidence": 0.9}):
        assert resolve_comparison(recipe(**other)).substance() != plain


@pytest.mark.parametrize(("processes", "cores", "threads"), [(1, 8, 8), (3, 8, 2), (None, 8, 1), (9, 8, 1)])
def test_the_cores_are_shared(processes: int | None, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_config, "usable_cores", lambda: cores)
    config = resolve_comparison(recipe(processes=processes))
    assert (config.workers, config.threads) == (processes or cores, threads)


def test_the_recipe_for_own_images_needs_their_folder_alone_and_searches_as_its_neighbour() -> None:
    """With other lengths."""
    recipes = Path(__file__).parents[2] / "recipes" / "small"
    found = resolve_comparison(recipes / "folder_compare.yaml", [("base.data.root", "images")])
    assert found.retrain
    assert not found.has_table
    alone = resolve(recipes / "folder.yaml", [("data.root", "images")])
    for name in ("data", "task", "space", "train"):
        mine, other = (getattr(config, name).model_dump() for config in (found.method("egs", 0), alone))
        lengths = {"epochs"} if name == "train" else set()
        assert {key for key in mine if mine[key] != other[key]} == lengths
