"""The likeliest architectures, against an enumeration of everything that M draws from every vector can give."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers.base import Derivation, Scope, Vectors
from datanas.samplers.derivation import derive_likeliest

OPS = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
Table = tuple[tuple[int, ...], ...]
"""The code of a group, hashable."""


def group(name: str, edges: tuple[tuple[int, int], ...], primitives: tuple[str, ...]) -> ChoiceGroup:
    targets = tuple(dict.fromkeys(target for _, target in edges))
    return ChoiceGroup(name, edges, primitives, outputs=targets, inputs=2)


GROUPS: dict[str, dict[str, ChoiceGroup]] = {
    "one": {"normal": group("normal", ((0, 2), (1, 2)), OPS)},
    "no none": {"normal": group("normal", ((0, 2), (1, 2)), OPS[1:])},
    "two": {
        "normal": group("normal", ((0, 2), (0, 3)), OPS[:3]),
        "reduce": group("reduce", ((0, 2),), ("skip_connect", "none", "sep_conv_3x3")),
    },
    "padded": {"normal": group("normal", ((0, 2), (0, 3), (1, 3)), OPS[:3])},
}


def make(groups: dict[str, ChoiceGroup], scope: Scope, seed: int) -> tuple[dict[str, Vectors], dict[str, Tensor]]:
    layouts = {name: Vectors(found, scope) for name, found in groups.items()}
    generator = torch.Generator().manual_seed(seed)
    logits = {name: torch.randn(found.shape, generator=generator, dtype=torch.double) for name, found in groups.items()}
    return layouts, {name: layout.log_probs(logits[name]).exp() for name, layout in layouts.items()}


def derive(layouts: dict[str, Vectors], probs: dict[str, Tensor], samples: int, n: int, scope: Scope) -> Derivation:
    return derive_likeliest(probs, layouts, samples, n, space="conv_cell", scope=scope, aggregate="sum", raw=True)


def sets_of(probs: Tensor, samples: int) -> dict[frozenset[int], float]:
    """The probability of every set that M draws can give, by going through all sequences of draws."""
    found: dict[frozenset[int], float] = defaultdict(float)
    entries = [entry for entry, p in enumerate(probs.tolist()) if p > 0]
    for draws in product(entries, repeat=samples):
        found[frozenset(draws)] += math.prod(float(probs[entry]) for entry in draws)
    return found


def place_of(layout: Vectors, row: int, entry: int) -> tuple[int, int] | None:
    """The edge and column of an entry, by the definition of the scope; None for `none`."""
    found, members = layout.group, layout.members[row]
    ops = len(found.primitives)
    if len(members) == 1 and layout.shape[1] == ops and layout.null == found.null:
        edge, op = members[0], entry
    else:
        columns = [op for op in range(ops) if op != found.null]
        if found.null is not None:
            if entry == 0:
                return None
            entry -= 1
        edge, op = members[entry // len(columns)], columns[entry % len(columns)]
    return None if op == found.null else (edge, op)


def enumerate_networks(
    layouts: dict[str, Vectors], probs: dict[str, Tensor], samples: int, *, see_none: bool = False
) -> dict[tuple[object, ...], float]:
    """The probability of every network: the sum over the draws that give it.

    With `see_none` whether `none` was drawn counts as a difference, which it is not.
    """
    rows = [(name, row) for name, layout in layouts.items() for row in range(layout.shape[0])]
    total: dict[tuple[object, ...], float] = defaultdict(float)
    for chosen in product(*(sets_of(probs[name][row], samples).items() for name, row in rows)):
        codes = {name: np.zeros(layout.group.shape, int) for name, layout in layouts.items()}
        hidden = []
        for (name, row), (entries, _) in zip(rows, chosen, strict=True):
            places = [place_of(layouts[name], row, entry) for entry in entries]
            hidden.append(None in places)
            for edge, op in filter(None, places):
                codes[name][edge, op] = 1
        key: tuple[object, ...] = tuple(table_of(code) for code in codes.values())
        total[(*key, *hidden) if see_none else key] += math.prod(p for _, p in chosen)
    assert sum(total.values()) == pytest.approx(1)
    return dict(total)


def table_of(code: np.ndarray) -> Table:
    return tuple(tuple(int(bit) for bit in row) for row in code)


def key_of(architecture: Architecture) -> tuple[Table, ...]:
    return tuple(table_of(code) for code in architecture.code.values())


CASES = [(name, scope, samples) for name in GROUPS for scope in ("edge", "node") for samples in (1, 2, 3)]


@pytest.mark.parametrize(("name", "scope", "samples"), CASES)
def test_the_ranking_is_that_of_the_enumeration(name: str, scope: Scope, samples: int) -> None:
    layouts, probs = make(GROUPS[name], scope, seed=samples)
    expected = enumerate_networks(layouts, probs, samples)
    ranking = derive(layouts, probs, samples, 12, scope).ranking
    assert len(ranking) == min(12, len(expected))
    best = sorted(expected.values(), reverse=True)[: len(ranking)]
    np.testing.assert_allclose([math.exp(log_prob) for _, log_prob in ranking], best, rtol=1e-9)
    np.testing.assert_allclose([expected[key_of(found)] for found, _ in ranking], best, rtol=1e-9)


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_the_whole_ranking_is_every_network_once(scope: Scope) -> None:
    layouts, probs = make(GROUPS["two"], scope, seed=4)
    expected = enumerate_networks(layouts, probs, 2)
    ranking = derive(layouts, probs, 2, 10_000, scope).ranking
    assert {key_of(found) for found, _ in ranking} == set(expected)
    assert len(ranking) == len(expected)
    assert sum(math.exp(log_prob) for _, log_prob in ranking) == pytest.approx(1)


def test_counting_none_as_visible_gives_other_probabilities() -> None:
    """Negative control: with codes in place of networks the kept one is at times less likely, at times another."""
    less_likely = other_choice = 0
    for seed in range(20):
        layouts, probs = make(GROUPS["one"], "edge", seed)
        kept, log_prob = derive(layouts, probs, 2, 1, "edge").ranking[0]
        networks = enumerate_networks(layouts, probs, 2)
        codes = enumerate_networks(layouts, probs, 2, see_none=True)
        assert networks[key_of(kept)] == pytest.approx(math.exp(log_prob))
        less_likely += max(codes.values()) < 0.99 * math.exp(log_prob)
        other_choice += max(codes, key=codes.__getitem__)[0] != key_of(kept)[0]
    assert less_likely > 0
    assert other_choice > 0


def test_the_margin_is_the_distance_to_the_next_network() -> None:
    layouts, probs = make(GROUPS["one"], "edge", seed=1)
    first, second = sorted(enumerate_networks(layouts, probs, 3).values(), reverse=True)[:2]
    for n in (1, 2, 7):
        notes = derive(layouts, probs, 3, n, "edge").architecture.posterior
        assert notes is not None
        assert notes["log_prob"] == pytest.approx(math.log(first))
        assert notes["margin"] == pytest.approx(math.log(first / second))
        assert notes["samples"] == 3


def test_the_only_network_has_no_next() -> None:
    layouts = {"normal": Vectors(GROUPS["one"]["normal"], "edge")}
    probs = {"normal": torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])}
    derivation = derive(layouts, probs, 2, 5, "edge")
    assert len(derivation.ranking) == 1
    assert derivation.ranking[0][1] == 0.0
    # A note that is not finite is none.
    assert (derivation.architecture.posterior or {})["margin"] is None


def test_one_hot_none_gives_the_empty_network() -> None:
    layouts = {"normal": Vectors(GROUPS["one"]["normal"], "node")}
    one_hot = torch.zeros(1, 7)
    one_hot[0, 0] = 1.0
    kept = derive(layouts, {"normal": one_hot}, 4, 1, "node").architecture
    assert kept.code["normal"].sum() == 0


def test_the_kept_one_leads_the_ranking() -> None:
    layouts, probs = make(GROUPS["two"], "node", seed=2)
    derivation = derive(layouts, probs, 2, 4, "node")
    assert derivation.ranking[0][0] is derivation.architecture
    assert len({found for found, _ in derivation.ranking}) == 4


@pytest.mark.parametrize("scope", ["edge", "node"])
@pytest.mark.parametrize("flat", [True, False])
def test_asking_for_more_changes_no_place(scope: Scope, flat: bool) -> None:
    layouts, probs = make(GROUPS["two"], scope, seed=3)
    if flat:
        probs = {name: layout.mask / layout.mask.sum(1, keepdim=True).double() for name, layout in layouts.items()}
    longest = derive(layouts, probs, 2, 30, scope).ranking
    for n in (1, 2, 3, 10):
        assert derive(layouts, probs, 2, n, scope).ranking == longest[:n]


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_of_ties_the_smaller_code_and_the_lower_index_win(scope: Scope) -> None:
    """One draw from a flat vector: every network is as likely as every other."""
    groups = {"normal": group("normal", ((0, 2), (0, 3)), OPS[:3])}
    layouts = {name: Vectors(found, scope) for name, found in groups.items()}
    probs = {name: torch.full(layout.shape, 1 / 3, dtype=torch.double) for name, layout in layouts.items()}
    ranking = derive(layouts, probs, 1, 9, scope).ranking
    assert [log_prob for _, log_prob in ranking] == pytest.approx([math.log(1 / 9)] * 9)
    choices = ((0, 0, 0), (0, 1, 0), (0, 0, 1))
    assert [key_of(found)[0] for found, _ in ranking] == list(product(choices, choices))


def test_the_architecture_describes_its_groups_and_its_scope() -> None:
    layouts, probs = make(GROUPS["two"], "node", seed=2)
    found = derive_likeliest(probs, layouts, 2, space="made_up", scope="node", aggregate="mean").architecture
    assert (found.space, found.scope, found.aggregate) == ("made_up", "node", "mean")
    for name, layout in layouts.items():
        cell = found.cells[name]
        assert (cell.edges, cell.primitives) == (layout.group.edges, layout.group.primitives)
        assert (cell.outputs, cell.inputs) == (layout.group.outputs, layout.group.inputs)
