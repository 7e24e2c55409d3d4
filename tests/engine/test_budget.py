"""Budgets from end to end: what is counted, kept, refused and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import datanas
from datanas.budgets.base import NetworkSize
from datanas.codes.architecture import Architecture
from datanas.codes.liveness import live_cell
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.budget import Budget, around, require_within
from datanas.engine.budgeted_alpha import start_within
from datanas.engine.config import Config, resolve
from datanas.engine.derive import derive
from datanas.engine.rebuild import network_for
from datanas.engine.search import SearchJob, search
from datanas.engine.search_result import SearchResult
from datanas.engine.setup import build_sampler, build_space, load_task
from datanas.engine.width import with_width
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.runs.checkpoint import load_checkpoint
from datanas.spaces.base import Space
from datanas.tasks.base import Task

CPU = torch.device("cpu")
Make = Callable[..., dict[str, Any]]


def made(config: dict[str, Any], **over: Any) -> tuple[Config, Task[Any], Budget]:
    settings = resolve(merge(config, over))
    task = load_task(settings, CPU)
    return settings, task, Budget(settings, around(task))


def random_architectures(settings: Config, count: int) -> list[Architecture]:
    """Live ones of any number of operations an edge; of one where the space has no others."""
    sampler = build_sampler(settings, build_space(settings))
    return sampler.candidates(count, torch.Generator().manual_seed(1))


SPACES = [
    {"space": {"cells": 3, "nodes": 5}, "train": {"cells": 3, "channels": 4}},
    {"space": {"cells": 3, "nodes": 6}, "train": {"cells": 6, "channels": 8, "pooling_norm": True}},
    {
        "space": {"name": "nasbench201", "cells": None, "nodes": None},
        "task": {"stem": "plain"},
        "train": {"cells": 6, "channels": 4},
    },
]


@pytest.mark.parametrize("over", SPACES, ids=["conv_cell", "deeper", "nasbench201"])
def test_the_additive_cost_is_that_of_the_network_and_never_less(config: Make, over: dict[str, Any]) -> None:
    base = config()
    if "name" in over["space"]:
        base["space"] = {"name": "nasbench201", "channels": 2}
        over = {**over, "space": {}}
    settings, task, budget = made(base, **over, budget={"macs": "1G", "parameters": "1G"})
    exact = 0
    for architecture in random_architectures(settings, 12):
        network = network_for(architecture, settings, task)
        counted = {"macs": count_macs(network, task.example()), "parameters": count_parameters(network)}
        assert budget.costs(architecture) == counted
        live = {name: live_cell(cell) for name, cell in architecture.cells.items()}
        whole = all(
            all(part.reads) and len(part.outputs) == len(architecture.cells[name].outputs)
            for name, part in live.items()
        )
        for name, cost in counted.items():
            table = budget.tables[name]
            added = table.constant + sum(float((table.tables[group] * part.code).sum()) for group, part in live.items())
            assert added >= cost
            assert added == pytest.approx(cost) or not whole
            exact += added == pytest.approx(cost)
    assert exact >= 4


def test_what_is_kept_within_a_bound_is_the_likeliest_whose_network_is(finished: SearchResult) -> None:
    free = derive(finished.path, n=1)
    before = derive(finished.path, settings=[("budget.macs", "1G")]).architecture
    assert before == free.architecture
    costs = (before.posterior or {})["costs"]
    bound = int(0.8 * costs["macs"])
    found = derive(finished.path, settings=[("budget.macs", str(bound))]).architecture
    notes = found.posterior or {}
    assert notes["costs"]["macs"] <= bound < costs["macs"]
    assert notes["log_prob"] <= notes["free_log_prob"]
    likelier = [each for each, log_prob in derive(finished.path, n=400).ranking if log_prob > notes["log_prob"] + 1e-9]
    budget = Budget(
        resolve(merge(resolve(finished.path / "config.yaml").model_dump(mode="json"), {"budget": {"macs": bound}})),
        around(load_task(resolve(finished.path / "config.yaml"), CPU)),
    )
    assert likelier
    assert all(budget.exceeded(budget.costs(each)) for each in likelier[:60])


def test_the_least_possible_cost_is_named(finished: SearchResult) -> None:
    with pytest.raises(
        ConfigError, match=r"budget\.macs: no network of 4 channels in the first of 3 cells has less than .*k mul"
    ):
        derive(finished.path, settings=[("budget.macs", "1k")])


def test_memory_is_counted_for_what_ranks_first(finished: SearchResult) -> None:
    found = derive(finished.path, settings=[("budget.memory", "1GB")]).architecture
    peak = (found.posterior or {})["costs"]["memory"]
    assert peak > 4 * 3 * 8 * 8
    with pytest.raises(ConfigError, match="none is within it: the least that any of them has is memory"):
        derive(finished.path, settings=[("budget.memory", "100B")])


def test_derive_takes_no_other_settings(finished: SearchResult) -> None:
    with pytest.raises(ConfigError, match="--seed: derive takes settings of budget and train alone"):
        derive(finished.path, settings=[("seed", "3")])


def test_a_search_within_a_bound_keeps_it_and_its_multipliers(config: Make) -> None:
    settings = config(budget={"macs": "140k"}, search={"epochs": 3})
    found = search(settings, quiet=True)
    assert (found.architecture.posterior or {})["costs"]["macs"] <= 140e3
    state = load_checkpoint(found.path)[1]["job"]["budget"]
    assert set(state["multipliers"]) == {"macs"}
    assert found.history[-1]["budget/expected/macs"] > 0
    trained = datanas.train(found.path, {"run": {**settings["run"], "name": "trained"}}, quiet=True)
    assert trained.costs["macs"] <= 140e3
    assert "within the budget" in trained.within


def test_a_search_under_a_bound_goes_on_bit_for_bit(
    config: Make,
    interrupt: Callable[[type[Any], int], None],
    final_state: Callable[[Path], dict[str, torch.Tensor]],
    same: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = {"budget": {"macs": "140k"}, "search": {"epochs": 2}, "sampler": {"prior": {"children": 0}}}
    whole = search(config(**over), quiet=True).path
    with monkeypatch.context() as patched:
        patched.setattr(SearchJob, "step", SearchJob.step)
        stopped = config(**over)
        interrupt(SearchJob, 4)
        with pytest.raises(KeyboardInterrupt):
            search(stopped, quiet=True)
    resumed = search(stopped, quiet=True).path
    assert same(final_state(whole), final_state(resumed))
    states = [load_checkpoint(path)[1]["job"]["budget"] for path in (whole, resumed)]
    assert states[0] == states[1]


@pytest.mark.parametrize("space", ["conv_cell", "nasbench201"])
def test_alpha_starts_where_what_is_likeliest_within_the_bound_is_likeliest(config: Make, space: str) -> None:
    settings = config(budget={"macs": "1G"})
    if space == "nasbench201":
        settings |= {"space": {"name": space, "channels": 2}, "task": {"stem": "plain"}}

    def job_within(macs: float) -> SearchJob:
        """A search whose alpha likes what is dear."""
        resolved = resolve(merge(settings, {"budget": {"macs": int(macs)}}))
        job = SearchJob(resolved, load_task(resolved, CPU), CPU)
        chance = torch.Generator().manual_seed(2)
        likes = torch.tensor(["conv_3x3" in name for name in next(iter(job.sampler.groups.values())).primitives])
        groups = job.sampler.groups.items()
        job.sampler.start_from({name: torch.randn(each.shape, generator=chance) + 3 * likes for name, each in groups})
        return job

    loose = job_within(1e9)
    assert loose.budget is not None
    free = loose.sampler.derive().architecture
    job = job_within(0.8 * loose.budget.costs(free)["macs"])
    within = job.sampler.derive().architecture
    assert within != free
    flatness = job.sampler.flatness()
    start_within(job.sampler, job.budget_loss)
    assert job.sampler.flatness() == pytest.approx(flatness, abs=0.02)
    job.sampler.limits = None
    found = job.sampler.derive().architecture
    if space == "nasbench201":
        assert found == within
    for name, layout in job.sampler.vectors.items():
        shares = layout.to_edges(job.sampler.vector_probs(name))
        chosen = torch.from_numpy(within.code[name].copy()) > 0
        for members in layout.members:
            edges = list(members)
            if chosen[edges].any():
                others = torch.where(chosen[edges], 0.0, shares[edges])
                if layout.group.null is not None:
                    others[:, layout.group.null] = 0
                assert float(shares[edges][chosen[edges]].min()) >= float(others.max())


@pytest.mark.parametrize("sampler", ["enas", "dso_nas"])
def test_a_method_that_cannot_choose_within_bounds_is_refused(config: Make, sampler: str) -> None:
    settings = resolve(config(sampler={"name": sampler}, budget={"macs": "150k"}))
    with pytest.raises(ConfigError, match=f"budget: sampler {sampler} cannot choose within bounds"):
        SearchJob(settings, load_task(settings, CPU), CPU)


@pytest.mark.parametrize("sampler", ["darts", "random", "evolution", "snas", "gdas", "proxylessnas", "drnas"])
def test_other_methods_keep_within_a_bound(config: Make, sampler: str) -> None:
    over: dict[str, Any] = {"sampler": {"name": sampler}, "budget": {"macs": "150k"}, "search": {"epochs": 1}}
    found = search(config(**over), quiet=True)
    _, _, budget = made(config(**over))
    assert not budget.exceeded(budget.costs(found.architecture))


def test_a_training_beyond_the_bound_is_refused_and_leaves_nothing(config: Make) -> None:
    settings = config(budget={"macs": "50k"})
    with pytest.raises(
        ConfigError, match=r"budget\.macs: the network of 4 channels in the first of 3 cells is not within it"
    ):
        datanas.train("darts_v2", settings, quiet=True)
    assert not (Path(settings["run"]["root"]) / settings["run"]["name"]).exists()


def test_a_training_that_fills_the_budget_is_as_wide_as_all_bounds_allow(config: Make) -> None:
    architecture = datanas.architecture("darts_v2")
    over = {"budget": {"macs": "400k", "parameters": "30k", "fill": True}}
    settings, task, _ = made(config(), **over)
    widened = with_width(architecture, settings, task)
    costs = require_within(architecture, widened, task)
    assert costs["macs"] <= 400e3
    assert costs["parameters"] <= 30e3
    wider = merge(widened.model_dump(mode="json"), {"train": {"channels": widened.train.network_config.width + 1}})
    with pytest.raises(ConfigError, match="is not within it"):
        require_within(architecture, resolve(wider), task)


def test_without_a_budget_there_is_none(config: Make) -> None:
    settings = resolve(config())
    job = SearchJob(settings, load_task(settings, CPU), CPU)
    assert job.budget is None
    assert job.budget_loss is None
    assert job.sampler.limits is None
    assert "budget" not in job.state()


def test_a_space_that_does_not_say_what_its_networks_cost_is_named(config: Make) -> None:
    settings, _, budget = made(config(), budget={"macs": "1M"})
    assert isinstance(budget._size(), NetworkSize)
    with pytest.raises(ConfigError, match="does not tell how large its rebuilt networks are"):
        Space.at_size(build_space(settings), 4, 3)


def test_a_table_serves_an_architecture_whatever_the_order_of_its_primitives(config: Make, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = {"max_pool_3x3": 1, "avg_pool_3x3": 2, "skip_connect": 4, "sep_conv_3x3": 8, "sep_conv_5x5": 16}
    rows |= {"dil_conv_3x3": 32, "dil_conv_5x5": 64}
    table.write_text("op,milliseconds\n" + "".join(f"{op},{ms}\n" for op, ms in rows.items()))
    over = {"budget": {"latency": "1s", "latency_table": str(table)}}
    settings, _, budget = made(config(), **over)
    (plain,) = random_architectures(settings, 1)
    cells = {
        name: replace(cell, primitives=cell.primitives[::-1], code=cell.code[:, ::-1].copy())
        for name, cell in plain.cells.items()
    }
    turned = replace(plain, cells=cells)
    assert budget.costs(turned)["latency"] == budget.costs(plain)["latency"] > 0
    with pytest.raises(ConfigError, match=r"its table is of space conv_cell as it is set, which has no resnet18"):
        budget.tabled("latency", datanas.architecture("resnet18"))


def test_a_weight_that_no_loss_could_take_is_refused(config: Make) -> None:
    settings, _, budget = made(config(), sampler={"name": "random"}, budget={"weight": {"macs": 0.1}})
    with pytest.raises(ConfigError, match=r"budget\.weight: sampler random has no loss"):
        budget.limit(build_sampler(settings, build_space(settings)))


def test_a_weight_of_what_is_not_bounded_fills_nothing(config: Make) -> None:
    over = {"budget": {"macs": "400k", "fill": True, "weight": {"parameters": 0.1}}}
    settings, task, _ = made(config(), **over)
    architecture = datanas.architecture("darts_v2")
    widened = with_width(architecture, settings, task)
    assert require_within(architecture, widened, task)["macs"] <= 400e3
