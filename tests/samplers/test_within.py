"""The likeliest architectures within bounds, against an enumeration of all."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from tests.samplers.test_derivation import enumerate_networks, key_of
from tests.samplers.test_live import CASES, GROUPS, live_networks, make, paths_through
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.engine.setup import build_space
from datanas.samplers.base import Scope, Vectors
from datanas.samplers.derivation import Derivation, derive_likeliest
from datanas.samplers.limits import Limits
from datanas.samplers.rules_within import top_edges_within, top_operations_within
from datanas.samplers.within import least_cost

Key = tuple[tuple[tuple[int, ...], ...], ...]


def random_limits(layouts: dict[str, Vectors], seed: int, costs: int, share: float, *, distinct: bool) -> Limits:
    """Costs with ties, or all different, and bounds that allow a share of what everything together costs."""
    rng = np.random.default_rng(seed)
    tables = {}
    for name, layout in layouts.items():
        shape = (*layout.group.shape, costs)
        table = rng.random(shape) if distinct else np.tile(rng.integers(0, 3, (1, *shape[1:])), (shape[0], 1, 1)) * 1.0
        if layout.group.null is not None:
            table[:, layout.group.null] = 0
        tables[name] = table
    whole = sum(table.sum(axis=(0, 1)) for table in tables.values())
    return Limits(tuple(f"cost {k}" for k in range(costs)), tables, share * whole)


def derive(
    layouts: dict[str, Vectors], probs: dict[str, Tensor], samples: int, n: int, limits: Limits, *, raw: bool = False
) -> Derivation:
    return derive_likeliest(
        probs, layouts, samples, n, space="conv_cell", scope="edge", aggregate="sum", raw=raw, limits=limits
    )


def walked_cost(key: Key, limits: Limits) -> np.ndarray:
    """The cost of what lies on a path, by walking there and back."""
    total = np.zeros(len(limits.names))
    for code, (name, group) in zip(key, CURRENT.items(), strict=True):
        is_open = [any(bit for op, bit in enumerate(row) if group.primitives[op] != "none") for row in code]
        reached, read = set(range(group.inputs)), set(group.outputs)
        for _ in group.edges:
            reached |= {t for (s, t), opened in zip(group.edges, is_open, strict=True) if opened and s in reached}
        for _ in group.edges:
            read |= {
                s for (s, t), opened in zip(group.edges, is_open, strict=True) if opened and t in read and s in reached
            }
        for edge, (source, target) in enumerate(group.edges):
            if source in reached and target in read:
                for op, bit in enumerate(code[edge]):
                    total += bit * limits.tables[name][edge, op]
    return total


CURRENT: dict[str, ChoiceGroup] = {}


def within(everything: dict[Key, float], layouts: dict[str, Vectors], limits: Limits) -> dict[Key, float]:
    CURRENT.clear()
    CURRENT.update({name: layout.group for name, layout in layouts.items()})
    return {key: p for key, p in everything.items() if (walked_cost(key, limits) <= limits.bounds + 1e-9).all()}


@pytest.mark.parametrize(("costs", "share", "distinct"), [(1, 0.15, True), (1, 0.4, False), (2, 0.4, True)])
@pytest.mark.parametrize(("name", "scope", "samples"), CASES)
def test_the_ranking_is_that_of_the_enumeration_within_the_bounds(
    name: str, scope: Scope, samples: int, costs: int, share: float, distinct: bool
) -> None:
    layouts, probs = make(name, scope, seed=samples)
    limits = random_limits(layouts, 10 * samples + costs, costs, share, distinct=distinct)
    live = live_networks(layouts, probs, samples)
    allowed = within(live, layouts, limits)  # type: ignore[arg-type]
    if not allowed:
        with pytest.raises(ConfigError, match="no architecture"):
            derive(layouts, probs, samples, 1, limits)
        return
    for n in (1, 12):
        ranking = derive(layouts, probs, samples, n, limits).ranking
        best = sorted(allowed.values(), reverse=True)[:n]
        assert len(ranking) == len(best)
        np.testing.assert_allclose(
            [math.exp(log_prob) for _, log_prob in ranking], np.array(best) / sum(live.values()), rtol=1e-9
        )
        np.testing.assert_allclose([allowed[key_of(found)] for found, _ in ranking], best, rtol=1e-9)
        assert len({found for found, _ in ranking}) == len(ranking)


@pytest.mark.parametrize("name", GROUPS)
def test_raw_ranks_dead_architectures_too(name: str) -> None:
    layouts, probs = make(name, "node", seed=2)
    limits = random_limits(layouts, 5, 1, 0.2, distinct=True)
    everything = within(enumerate_networks(layouts, probs, 2), layouts, limits)  # type: ignore[arg-type]
    ranking = derive(layouts, probs, 2, 8, limits, raw=True).ranking
    best = sorted(everything.values(), reverse=True)[:8]
    np.testing.assert_allclose([math.exp(log_prob) for _, log_prob in ranking], best, rtol=1e-9)


def single_layouts(seed: int) -> tuple[dict[str, Vectors], dict[str, Tensor]]:
    group = build_space(resolve({"space": {"name": "nasbench201"}})).groups()["cell"]
    layout = Vectors(group, "edge")
    logits = 2 * torch.randn(group.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return {"cell": layout}, {"cell": layout.log_probs(logits).exp()}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("costs", [1, 2])
def test_of_one_operation_an_edge_it_is_that_of_all_15625(seed: int, costs: int) -> None:
    layouts, probs = single_layouts(seed)
    group = layouts["cell"].group
    limits = random_limits(layouts, seed, costs, 0.1, distinct=True)
    tables, logs = limits.tables["cell"], probs["cell"].log().numpy() * 3
    allowed = []
    for ops in product(range(5), repeat=6):
        code = torch.zeros(group.shape)
        code[torch.arange(6), list(ops)] = 1
        if group.lets_through(code) and limits.allow(limits.cost({"cell": code}, layouts_groups(layouts))):
            allowed.append(sum(logs[edge, op] for edge, op in enumerate(ops)))
    assert tables.shape[2] == costs
    found = derive(layouts, probs, 3, 5, limits)
    log_live = (found.architecture.posterior or {})["log_live"]
    np.testing.assert_allclose(
        [log_prob + log_live for _, log_prob in found.ranking], sorted(allowed, reverse=True)[:5], rtol=1e-9
    )


def layouts_groups(layouts: dict[str, Vectors]) -> dict[str, ChoiceGroup]:
    return {name: layout.group for name, layout in layouts.items()}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("scope", ["edge", "node"])
def test_the_least_cost_is_that_of_the_cheapest_live_network(name: str, scope: Scope) -> None:
    layouts, probs = make(name, scope, seed=4)
    limits = random_limits(layouts, 6, 2, 1.0, distinct=True)
    CURRENT.clear()
    CURRENT.update(layouts_groups(layouts))
    costs = [walked_cost(key, limits) for key in live_networks(layouts, probs, 2)]  # type: ignore[arg-type]
    for index in range(2):
        assert least_cost(layouts, limits, index, 2) == pytest.approx(min(cost[index] for cost in costs))


def test_without_a_bound_that_binds_nothing_changes() -> None:
    layouts, probs = make("two groups", "node", seed=5)
    limits = random_limits(layouts, 1, 1, 1.0, distinct=True)
    free = derive_likeliest(probs, layouts, 2, 20, space="conv_cell", scope="edge", aggregate="sum")
    bound = derive(layouts, probs, 2, 20, limits)
    assert [found for found, _ in bound.ranking] == [found for found, _ in free.ranking]
    assert (bound.architecture.posterior or {})["free_log_prob"] == free.ranking[0][1]


def test_the_walk_of_this_test_agrees_with_limits() -> None:
    layouts, probs = make("two inputs", "edge", seed=1)
    limits = random_limits(layouts, 2, 2, 1.0, distinct=True)
    CURRENT.clear()
    CURRENT.update(layouts_groups(layouts))
    for key in enumerate_networks(layouts, probs, 1):
        codes = {name: torch.tensor(code) for name, code in zip(layouts, key, strict=True)}
        np.testing.assert_allclose(limits.cost(codes, layouts_groups(layouts)), walked_cost(key, limits))  # type: ignore[arg-type]
    assert paths_through(layouts["cell"].group, ((1, 0), (0, 0), (0, 0), (0, 0))) is False


@pytest.mark.parametrize("seed", range(4))
def test_the_rules_within_bounds_keep_the_largest_product(seed: int) -> None:
    group = ChoiceGroup("cell", ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), ("none", "a", "b"), (2, 3), 2)
    layouts = {"cell": Vectors(group, "edge")}
    scores = {"cell": torch.rand(group.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)}
    limits = random_limits(layouts, seed, 1, 0.35, distinct=True)
    edges = top_edges_within(scores, {"cell": group}, limits)
    best = []
    for kept in ((2, 3), (2, 4), (3, 4)):
        for ops in product((1, 2), repeat=4):
            code = torch.zeros(group.shape)
            code[[0, 1, *kept], list(ops)] = 1
            if limits.allow(limits.cost({"cell": code}, {"cell": group}, live_only=False)):
                best.append(float(scores["cell"][code > 0].prod()))
    assert (edges is None) == (not best)
    if edges is not None:
        assert float(scores["cell"][edges["cell"] > 0].prod()) == pytest.approx(max(best))
    loose = Limits(limits.names, limits.tables, limits.bounds * 100)
    every = top_operations_within(scores, {"cell": group}, loose, 1)
    assert every is not None
    torch.testing.assert_close(every["cell"].argmax(dim=1), scores["cell"][:, 1:].argmax(dim=1) + 1)
