"""The derivation rules against brute force, and DARTS' against the cells that it published."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas import lookup as published
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.samplers.base import Scope, Vectors
from datanas.samplers.darts import DARTS
from datanas.samplers.derivation import derive_likeliest, top_edges, top_operations
from datanas.samplers.egs import EGS
from datanas.spaces.conv_cell import ConvCellSpace

EDGES = ((0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 4), (3, 4))
"""Nodes 2, 3 and 4 have 2, 2 and 4 incoming edges, which do not stand together."""
OPERATIONS = ("skip_connect", "sep_conv_3x3", "dil_conv_3x3")


@st.composite
def tables(draw: st.DrawFn) -> tuple[ChoiceGroup, Tensor]:
    """A group and strengths of few values, so that many are equal."""
    place = draw(st.integers(0, 3))
    primitives = OPERATIONS if draw(st.booleans()) else (*OPERATIONS[:place], "none", *OPERATIONS[place:])
    edges = EDGES[: draw(st.integers(1, len(EDGES)))]
    targets = tuple(dict.fromkeys(target for _, target in edges))
    group = ChoiceGroup("normal", edges, primitives, outputs=targets, inputs=2, fan_in=draw(st.integers(1, 3)))
    size = len(edges) * len(primitives)
    values = draw(st.lists(st.integers(0, 6), min_size=size, max_size=size))
    return group, torch.tensor(values, dtype=torch.double).reshape(group.shape) / 6


def kept(code: Tensor) -> list[tuple[int, int]]:
    assert set(code.unique().tolist()) <= {0.0, 1.0}
    return [(int(edge), int(op)) for edge, op in code.nonzero()]


def best_inputs(op_scores: Tensor, group: ChoiceGroup, *, none: bool) -> list[tuple[int, int]]:
    """DARTS' rule by going through every choice of edges and of their operations, the earliest of equally good ones."""
    found: list[tuple[int, int]] = []
    for target in dict.fromkeys(target for _, target in group.edges):
        incoming = []
        for edge, (_, to) in enumerate(group.edges):
            ops = [op for op in range(len(group.primitives)) if none or group.primitives[op] != "none"]
            best = max(ops, key=lambda op: (op_scores[edge, op].item(), -op))
            if to == target and group.primitives[best] != "none":
                incoming.append((edge, best))
        choices = combinations(incoming, min(group.fan_in, len(incoming)))
        found += max(choices, key=lambda chosen: sorted((op_scores[place].item() for place in chosen), reverse=True))
    return sorted(found)


@pytest.mark.parametrize("none", [False, True])
@settings(max_examples=150, deadline=None)
@given(tables())
def test_two_inputs_are_the_strongest_edges_with_their_strongest_operation(
    none: bool, table: tuple[ChoiceGroup, Tensor]
) -> None:
    group, op_scores = table
    assert kept(top_edges(op_scores, group, none=none)) == best_inputs(op_scores, group, none=none)


@pytest.mark.parametrize("none", [False, True])
@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(1, 6))
def test_top_operations_are_the_strongest_of_each_edge(none: bool, table: tuple[ChoiceGroup, Tensor], n: int) -> None:
    group, op_scores = table
    expected = []
    for edge, row in enumerate(op_scores.tolist()):
        allowed = [op for op, name in enumerate(group.primitives) if none or name != "none"]
        expected += sorted((edge, op) for op in sorted(allowed, key=lambda op: (-row[op], op))[:n])
    assert kept(top_operations(op_scores, group, n, none=none)) == expected


def test_none_decides_only_where_it_may() -> None:
    """Negative control for both rules: where `none` is strongest, asking for it changes what is kept."""
    group = ChoiceGroup("normal", ((0, 2), (1, 2)), ("none", *OPERATIONS), outputs=(2,), inputs=2)
    op_scores = torch.tensor([[0.7, 0.1, 0.2, 0.0], [0.1, 0.1, 0.2, 0.6]])
    assert kept(top_edges(op_scores, group)) == [(0, 2), (1, 3)]
    assert kept(top_edges(op_scores, group, none=True)) == [(1, 3)]
    assert kept(top_operations(op_scores, group)) == [(0, 2), (1, 3)]
    assert kept(top_operations(op_scores, group, none=True)) == [(0, 0), (1, 3)]


def test_of_equals_the_first_is_kept() -> None:
    group = ChoiceGroup("normal", EDGES, OPERATIONS, outputs=(2, 3, 4), inputs=2)
    flat = torch.full(group.shape, 1 / 3)
    assert kept(top_edges(flat, group)) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]
    assert kept(top_operations(flat, group, 2)) == [(edge, op) for edge in range(8) for op in (0, 1)]


@pytest.mark.parametrize("name", ["darts_v1", "darts_v2"])
def test_darts_keeps_the_cell_that_it_published(name: str) -> None:
    """From alphas in which `none` is the largest on every edge, as in the published searches."""
    cell = published.architecture(name)
    groups = ConvCellSpace(ConvCellSpace.Config()).groups()
    made = DARTS(DARTS.Config(), groups, "conv_cell")
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for group_name, group in groups.items():
            assert (cell.cells[group_name].edges, cell.cells[group_name].primitives) == (group.edges, group.primitives)
            code = torch.tensor(cell.code[group_name].tolist(), dtype=torch.double)
            alpha = 0.3 * torch.rand(group.shape, generator=noise, dtype=torch.double) + code
            alpha[:, group.null] = 2.0
            made.alpha[group_name].copy_(alpha)
    assert made.rule == "top_edges"
    assert made.derive().architecture == cell
    with torch.no_grad():
        made.alpha["normal"][cell.code["normal"].any(axis=1).argmax()] -= 5.0
        made.alpha["normal"][cell.code["normal"].any(axis=1).argmin()] += torch.arange(8.0)
    assert made.derive().architecture != cell


def test_the_weight_of_none_counts_against_an_edge() -> None:
    """DARTS compares softmax over all operations, `none` too; among the others alone another edge would win."""
    group = ChoiceGroup("normal", ((0, 2), (1, 2)), ("none", *OPERATIONS), outputs=(2,), inputs=2, fan_in=1)
    made = DARTS(DARTS.Config(), {"normal": group}, "conv_cell")
    with torch.no_grad():
        made.alpha["normal"].copy_(torch.tensor([[5.0, 0.0, 2.0, 0.0], [0.0, 0.0, 1.0, 0.0]]))
    assert kept(torch.tensor(made.derive().architecture.code["normal"])) == [(1, 2)]
    without = made.alpha["normal"].detach()[:, 1:].softmax(dim=1)
    assert without.max(dim=1).values.argmax() == 0


SINGLE = {
    "a": ChoiceGroup("a", ((0, 1), (0, 2), (1, 2)), ("none", *OPERATIONS[:2]), outputs=(2,), inputs=1, single=True),
    "b": ChoiceGroup("b", ((0, 1),), OPERATIONS, outputs=(1,), inputs=1, single=True),
}


PLAIN = {"name": "egs", "derivation": {"raw": True}}


@pytest.mark.parametrize("scope", ["edge", "node"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_one_operation_an_edge_the_ranking_is_that_of_the_products(scope: Scope, samples: int, seed: int) -> None:
    """Every assignment of an operation to an edge, with the probability that M draws give nothing else."""
    noise = torch.Generator().manual_seed(seed)
    logits = {n: torch.randn(g.shape, generator=noise, dtype=torch.double) for n, g in SINGLE.items()}
    layouts = {name: Vectors(group, "edge") for name, group in SINGLE.items()}
    probs = {name: layout.log_probs(logits[name]).exp() for name, layout in layouts.items()}
    rows = torch.cat([probs["a"], probs["b"]]).tolist()
    values = {ops: math.prod(row[op] ** samples for row, op in zip(rows, ops, strict=True)) for ops in all_single()}
    expected = sorted(values, key=lambda ops: -values[ops])

    config = validate(EGS.Config, {**PLAIN, "samples": samples, "scope": scope}, "sampler")
    made = EGS(config, SINGLE, "nasbench201")
    with torch.no_grad():
        for name, alpha in made.alpha.items():
            alpha.copy_(logits[name])
    ranking = made.derive(len(expected) + 1).ranking
    assert [operations_of(found.code) for found, _ in ranking] == expected
    np.testing.assert_allclose([p for _, p in ranking], [math.log(values[ops]) for ops in expected], rtol=1e-4)

    best = derive_likeliest(probs, layouts, samples, space="s", scope=scope, aggregate="sum", raw=True)
    assert operations_of(best.architecture.code) == tuple(max(range(3), key=row.__getitem__) for row in rows)
    log_prob = samples * sum(math.log(max(row)) for row in rows)
    assert best.ranking[0][1] == pytest.approx(log_prob, abs=1e-12)


def all_single() -> list[tuple[int, ...]]:
    return list(product(range(3), repeat=4))


def operations_of(code: dict[str, np.ndarray]) -> tuple[int, ...]:
    """The operation of each edge; a row that is empty in `a` is its `none`."""
    return tuple(int(row.argmax()) for name in ("a", "b") for row in code[name])


NOT_SINGLE = {
    "none first": ChoiceGroup("normal", EDGES, ("none", *OPERATIONS), outputs=(2, 3, 4), inputs=2),
    "none inside": ChoiceGroup("normal", EDGES, ("skip_connect", "none", "sep_conv_3x3"), outputs=(4,), inputs=2),
    "no none": ChoiceGroup("normal", EDGES, OPERATIONS, outputs=(2, 3, 4), inputs=2),
}


@pytest.mark.parametrize("scope", ["edge", "node"])
@pytest.mark.parametrize("group", NOT_SINGLE.values(), ids=NOT_SINGLE)
def test_a_table_goes_to_vectors_and_back(group: ChoiceGroup, scope: Scope) -> None:
    """All but the entries of a merged `none`, which are 0 on both sides."""
    layout = Vectors(group, scope)
    merged = scope == "node" and group.null is not None
    table = 1 + torch.arange(len(EDGES) * len(group.primitives), dtype=torch.double).reshape(group.shape)
    vectors = layout.to_vectors(table)
    assert vectors.shape == layout.shape
    assert (vectors[~layout.mask] == 0).all()
    if merged:
        assert (vectors[:, layout.null] == 0).all()
        table[:, group.null] = 0
    assert torch.equal(layout.to_edges(vectors), table)
    assert sorted(vectors[vectors > 0].tolist()) == sorted(table[table > 0].tolist())

    entries = torch.rand(layout.shape, generator=torch.Generator().manual_seed(0)) * layout.mask
    if merged:
        entries[:, layout.null] = 0
    assert torch.equal(layout.to_vectors(layout.to_edges(entries)), entries)


@pytest.mark.parametrize("group", NOT_SINGLE.values(), ids=NOT_SINGLE)
def test_a_vector_holds_the_operations_of_its_own_edges(group: ChoiceGroup) -> None:
    """Negative control: a table that marks the edges of one node fills that node's vector and no other."""
    layout = Vectors(group, "node")
    for row, part in enumerate(layout.members):
        table = torch.zeros(group.shape)
        table[list(part)] = 1.0
        assert layout.to_vectors(table).any(dim=1).nonzero().flatten().tolist() == [row]
