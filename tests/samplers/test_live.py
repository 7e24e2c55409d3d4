"""The likeliest architectures that let their input through, against an enumeration of all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from tests.samplers.test_derivation import OPS, enumerate_networks, key_of
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core import seeding
from datanas.engine.config import resolve
from datanas.engine.setup import build_sampler, build_space
from datanas.samplers.base import Derivation, Sampler, Scope, Vectors
from datanas.samplers.derivation import derive_likeliest
from datanas.samplers.live import live_log_share, live_paths

CHAIN = ((0, 1), (0, 2), (1, 2))


def cell(
    edges: tuple[tuple[int, int], ...], outputs: tuple[int, ...], inputs: int, ops: tuple[str, ...]
) -> ChoiceGroup:
    return ChoiceGroup("cell", edges, ops, outputs=outputs, inputs=inputs)


GROUPS = {
    "chain": {"cell": cell(CHAIN, (2,), 1, OPS[:3])},
    "chain, none last": {"cell": cell(CHAIN, (2,), 1, ("skip_connect", "sep_conv_3x3", "none"))},
    "two inputs": {"cell": cell(((0, 2), (1, 2), (0, 3), (2, 3)), (3,), 2, OPS[:2])},
    "all nodes are outputs": {"cell": cell(CHAIN, (1, 2), 1, OPS[:3])},
    "no none": {"cell": cell(CHAIN, (2,), 1, OPS[1:3])},
    "two groups": {
        "normal": cell(((0, 1), (1, 2)), (2,), 1, OPS[:3]),
        "reduce": cell(((0, 2), (1, 2)), (2,), 2, OPS[:2]),
    },
}
CASES = [(name, scope, samples) for name in GROUPS for scope in ("edge", "node") for samples in (1, 2, 3)]


def make(name: str, scope: Scope, seed: int, none: float = 1.5) -> tuple[dict[str, Vectors], dict[str, Tensor]]:
    """Vectors of a group, and random probabilities in which `none` is likely, so that much is dead."""
    layouts = {group: Vectors(found, scope) for group, found in GROUPS[name].items()}
    generator = torch.Generator().manual_seed(seed)
    probs = {}
    for group, layout in layouts.items():
        logits = torch.randn(layout.group.shape, generator=generator, dtype=torch.double)
        if layout.group.null is not None:
            logits[:, layout.group.null] += none
        probs[group] = layout.log_probs(logits).exp()
    return layouts, probs


def derive(
    layouts: dict[str, Vectors], probs: dict[str, Tensor], samples: int, n: int, *, raw: bool = False
) -> Derivation:
    return derive_likeliest(probs, layouts, samples, n, space="conv_cell", scope="edge", aggregate="sum", raw=raw)


def paths_through(group: ChoiceGroup, code: tuple[tuple[int, ...], ...]) -> bool:
    """Whether an output can be walked to from an input; by walking, in no clever order."""
    reached = set(range(group.inputs))
    for _ in group.edges:
        for (source, target), row in zip(group.edges, code, strict=True):
            opened = any(bit for op, bit in enumerate(row) if group.primitives[op] != "none")
            if opened and source in reached:
                reached.add(target)
    return any(node in reached for node in group.outputs)


def live_networks(
    layouts: dict[str, Vectors], probs: dict[str, Tensor], samples: int
) -> dict[tuple[object, ...], float]:
    groups = [layout.group for layout in layouts.values()]
    everything = enumerate_networks(layouts, probs, samples)
    return {
        key: p
        for key, p in everything.items()
        if all(paths_through(group, code) for group, code in zip(groups, key, strict=True))  # type: ignore[arg-type]
    }


@pytest.mark.parametrize(("name", "scope", "samples"), CASES)
def test_the_ranking_is_that_of_the_live_part_of_the_enumeration(name: str, scope: Scope, samples: int) -> None:
    layouts, probs = make(name, scope, seed=samples)
    live = live_networks(layouts, probs, samples)
    share = sum(live.values())
    ranking = derive(layouts, probs, samples, 25).ranking
    best = sorted(live.values(), reverse=True)[:25]
    assert len(ranking) == len(best)
    np.testing.assert_allclose([math.exp(log_prob) for _, log_prob in ranking], np.array(best) / share, rtol=1e-9)
    np.testing.assert_allclose([live[key_of(found)] for found, _ in ranking], best, rtol=1e-9)


@pytest.mark.parametrize(("name", "scope", "samples"), CASES)
def test_the_share_of_live_networks_is_that_of_the_enumeration(name: str, scope: Scope, samples: int) -> None:
    layouts, probs = make(name, scope, seed=7 * samples)
    found = sum(live_log_share(probs[group], layout, samples) for group, layout in layouts.items())
    assert math.exp(found) == pytest.approx(sum(live_networks(layouts, probs, samples).values()), rel=1e-9)


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_all_live_networks_are_ranked_once(scope: Scope) -> None:
    layouts, probs = make("two groups", scope, seed=3)
    ranking = derive(layouts, probs, 2, 10_000).ranking
    assert {key_of(found) for found, _ in ranking} == set(live_networks(layouts, probs, 2))
    assert len({found for found, _ in ranking}) == len(ranking)
    assert sum(math.exp(log_prob) for _, log_prob in ranking) == pytest.approx(1)


def test_the_unconditional_mode_is_often_dead_where_none_is_likely() -> None:
    """Negative control: `raw` keeps what the other does not."""
    dead = 0
    for seed in range(20):
        layouts, probs = make("chain", "edge", seed)
        live = live_networks(layouts, probs, 1)
        dead += key_of(derive(layouts, probs, 1, 1, raw=True).architecture) not in live
        assert key_of(derive(layouts, probs, 1, 1).architecture) in live
    assert dead > 5


def test_log_prob_and_log_live_add_up_to_the_unconditional_log_probability() -> None:
    layouts, probs = make("chain", "edge", seed=1)
    kept = derive(layouts, probs, 2, 1).architecture
    notes = kept.posterior or {}
    assert math.exp(notes["log_prob"] + notes["log_live"]) == pytest.approx(
        enumerate_networks(layouts, probs, 2)[key_of(kept)]
    )


def test_a_live_mode_is_kept_either_way() -> None:
    layouts, probs = make("chain", "edge", seed=1, none=-3.0)
    assert derive(layouts, probs, 2, 1).architecture == derive(layouts, probs, 2, 1, raw=True).architecture


def test_the_search_for_live_codes_alone_gives_the_same_as_the_short_cut() -> None:
    layouts, probs = make("chain", "node", seed=1, none=-3.0)
    paths = live_paths(probs["cell"], layouts["cell"], 3, 5)
    expected = sorted(live_networks(layouts, probs, 3).values(), reverse=True)[:5]
    np.testing.assert_allclose([math.exp(log_prob) for log_prob, _ in paths], expected, rtol=1e-9)


def test_where_nothing_live_is_possible_the_raw_mode_is_kept() -> None:
    layouts = {"cell": Vectors(GROUPS["chain"]["cell"], "edge")}
    only_none = torch.zeros(3, 3)
    only_none[:, 0] = 1.0
    kept = derive(layouts, {"cell": only_none}, 4, 1).architecture
    assert kept.code["cell"].sum() == 0
    assert "log_live" not in (kept.posterior or {})


def single_codes(group: ChoiceGroup) -> Iterator[tuple[int, ...]]:
    return product(range(len(group.primitives)), repeat=len(group.edges))


@pytest.mark.parametrize("samples", [1, 4])
def test_one_operation_an_edge_is_ranked_among_the_live_codes_of_one_operation_an_edge(samples: int) -> None:
    group = ChoiceGroup("cell", CHAIN, OPS, outputs=(2,), inputs=1, single=True)
    layouts = {"cell": Vectors(group, "edge")}
    logits = torch.randn(group.shape, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    logits[:, 0] += 2.0
    probs = {"cell": logits.softmax(1)}
    values = []
    for code in single_codes(group):
        table = tuple(tuple(int(op == chosen) for op in range(len(OPS))) for chosen in code)
        if paths_through(group, table):
            values.append(math.prod(float(probs["cell"][edge, op]) ** samples for edge, op in enumerate(code)))
    ranking = derive(layouts, probs, samples, 10).ranking
    best = sorted(values, reverse=True)[:10]
    np.testing.assert_allclose([math.exp(log_prob) for _, log_prob in ranking], np.array(best) / sum(values), rtol=1e-9)
    assert all(paths_through(group, key_of(found)[0]) for found, _ in ranking)


def test_best_sample_compares_live_candidates_only() -> None:
    config = resolve(
        {"space": {"name": "nasbench201"}, "sampler": {"name": "egs", "derivation": {"rule": "best_sample"}}}
    )
    sampler = build_sampler(config, build_space(config))
    assert isinstance(sampler, Sampler)
    with torch.no_grad():
        sampler.alpha["cell"][:, 0] = 2.0
    group = sampler.groups["cell"]
    drawn = sampler.candidates(200, seeding.generator(0, "test"))
    assert drawn
    assert all(group.lets_through(torch.from_numpy(found.code["cell"].copy())) for found in drawn)
