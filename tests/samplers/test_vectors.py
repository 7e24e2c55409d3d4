"""The map between a table of alphas and its probability vectors, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers.base import Vectors

EDGES = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPS = ("none", "skip_connect", "sep_conv_3x3")


def group(primitives: tuple[str, ...] = OPS, edges: tuple[tuple[int, int], ...] = EDGES) -> ChoiceGroup:
    return ChoiceGroup("normal", edges, primitives, outputs=(2, 3), inputs=2)


GROUPS = {
    "with none": group(),
    "none in the middle": group(("skip_connect", "none", "sep_conv_3x3", "dil_conv_3x3")),
    "without none": group(("skip_connect", "sep_conv_3x3")),
    "nodes in turn": group(edges=((0, 2), (0, 3), (1, 2), (1, 3), (2, 3))),
}


@pytest.fixture(params=GROUPS)
def any_group(request: pytest.FixtureRequest) -> ChoiceGroup:
    return GROUPS[request.param]


@pytest.fixture(params=["edge", "node"])
def vectors(request: pytest.FixtureRequest, any_group: ChoiceGroup) -> Vectors:
    return Vectors(any_group, request.param)


def random_logits(layout: Vectors, seed: int = 0) -> torch.Tensor:
    return torch.randn(layout.group.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_every_vector_sums_to_one(vectors: Vectors) -> None:
    sums = vectors.log_probs(random_logits(vectors)).exp().sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_padding_has_no_probability_and_everything_else_some(vectors: Vectors) -> None:
    log_probs = vectors.log_probs(random_logits(vectors))
    assert log_probs.shape == vectors.shape == vectors.mask.shape
    assert torch.equal(log_probs.isfinite(), vectors.mask)
    assert (log_probs[~vectors.mask] == -torch.inf).all()


def test_flat_alphas_give_flat_vectors(vectors: Vectors) -> None:
    """A merged `none` weighs as much as one operation."""
    probs = vectors.log_probs(torch.zeros(vectors.group.shape, dtype=torch.double)).exp()
    uniform = vectors.mask / vectors.mask.sum(dim=1, keepdim=True)
    torch.testing.assert_close(probs, uniform.double())


def test_a_constant_added_to_a_vector_changes_nothing(vectors: Vectors) -> None:
    logits = random_logits(vectors)
    torch.testing.assert_close(vectors.log_probs(logits + 3.0), vectors.log_probs(logits))


def test_shares_sum_to_one_over_every_vector(vectors: Vectors) -> None:
    shares = vectors.shares(vectors.log_probs(random_logits(vectors)).exp())
    assert shares.shape == vectors.group.shape
    for members in vectors.members:
        assert float(shares[list(members)].sum()) == pytest.approx(1)


def test_flatness_is_one_for_flat_and_zero_for_one_hot(vectors: Vectors) -> None:
    logits = torch.zeros(vectors.group.shape, dtype=torch.double)
    assert vectors.flatness(vectors.log_probs(logits).exp()) == pytest.approx(1)
    one_hot = torch.zeros(vectors.shape)
    one_hot[:, 1] = 1
    assert vectors.flatness(one_hot) == 0


def test_flatness_falls_as_alphas_grow_apart(vectors: Vectors) -> None:
    logits = random_logits(vectors)
    found = [vectors.flatness(vectors.log_probs(scale * logits).exp()) for scale in (0.0, 0.5, 1.0, 2.0)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


def test_an_edge_has_its_own_softmax(any_group: ChoiceGroup) -> None:
    layout = Vectors(any_group, "edge")
    logits = random_logits(layout)
    assert layout.shape == any_group.shape
    assert layout.null == any_group.null
    torch.testing.assert_close(layout.log_probs(logits), logits.log_softmax(dim=1))


def test_edge_vectors_are_the_table_itself(any_group: ChoiceGroup) -> None:
    layout = Vectors(any_group, "edge")
    table = random_logits(layout)
    assert torch.equal(layout.to_edges(table), table)


def test_a_node_pools_its_edges_and_merges_none() -> None:
    """Worked out by hand: e^alpha is 1, 2, 3 on (0, 2) and 5, 6, 7 on (1, 2); their `none` weighs (1 + 5) / 2."""
    layout = Vectors(group(), "node")
    logits = torch.tensor([[1, 2, 3], [5, 6, 7], [1, 1, 1], [2, 1, 1], [3, 1, 2]], dtype=torch.double).log()
    assert layout.shape == (2, 7)
    assert layout.null == 0
    expected = torch.tensor(
        [
            [3 / 21, 2 / 21, 3 / 21, 6 / 21, 7 / 21, 0, 0],
            [2 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9, 2 / 9],
        ],
        dtype=torch.double,
    )
    torch.testing.assert_close(layout.log_probs(logits).exp(), expected)


def test_entries_of_a_node_go_back_to_their_edges() -> None:
    layout = Vectors(group(), "node")
    entries = torch.arange(14, dtype=torch.double).reshape(2, 7)
    expected = [[0, 1, 2], [0, 3, 4], [0, 8, 9], [0, 10, 11], [0, 12, 13]]
    assert layout.to_edges(entries).tolist() == expected


def test_a_merged_none_is_shared_by_its_edges() -> None:
    layout = Vectors(group(), "node")
    probs = torch.tensor([[0.4, 0.6, 0, 0, 0, 0, 0], [0.9, 0, 0, 0, 0, 0, 0.1]], dtype=torch.double)
    expected = [[0.2, 0.6, 0.0], [0.2, 0.0, 0.0], [0.3, 0, 0], [0.3, 0, 0], [0.3, 0, 0.1]]
    torch.testing.assert_close(layout.shares(probs), torch.tensor(expected, dtype=torch.double))


def test_a_node_without_none_pools_its_edges() -> None:
    layout = Vectors(GROUPS["without none"], "node")
    logits = random_logits(layout)
    assert layout.shape == (2, 6)
    assert layout.null is None
    first = logits[:2].flatten().log_softmax(dim=0)
    torch.testing.assert_close(layout.log_probs(logits)[0, :4], first)
    torch.testing.assert_close(layout.to_edges(layout.log_probs(logits).exp())[:2].flatten(), first.exp())


def test_edges_of_a_node_need_not_stand_together() -> None:
    """The edges in another order give the same probabilities in that order."""
    order = [0, 2, 1, 3, 4]
    together, apart = Vectors(group(), "node"), Vectors(GROUPS["nodes in turn"], "node")
    logits = random_logits(together)
    first = together.to_edges(together.log_probs(logits).exp())
    second = apart.to_edges(apart.log_probs(logits[order]).exp())
    torch.testing.assert_close(first[order], second)


def test_operations_hide_none_and_nothing_else(vectors: Vectors) -> None:
    codes = torch.ones(vectors.shape)
    seen = vectors.operations(codes)
    hidden = (seen == 0).nonzero()[:, 1].unique().tolist()
    assert hidden == ([] if vectors.null is None else [vectors.null])
    assert torch.equal(codes, torch.ones(vectors.shape))


def test_the_gradient_reaches_every_alpha(vectors: Vectors) -> None:
    logits = random_logits(vectors).requires_grad_()
    log_probs = vectors.log_probs(logits)
    (log_probs.masked_fill(~vectors.mask, 0) * random_logits_like(log_probs)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).all()


def random_logits_like(table: torch.Tensor) -> torch.Tensor:
    return torch.randn(table.shape, generator=torch.Generator().manual_seed(5), dtype=torch.double)


def test_extreme_alphas_stay_exact(vectors: Vectors) -> None:
    logits = torch.zeros(vectors.group.shape, dtype=torch.double)
    logits[:, -1] = 800.0
    log_probs = vectors.log_probs(logits)
    for row, members in enumerate(vectors.members):
        assert float(log_probs[row].max()) == pytest.approx(-math.log(len(members)))


def test_a_merged_none_may_weigh_as_much_as_its_parts_together() -> None:
    """Worked out by hand, as above: the `none` of the first node weighs 1 + 5, that of the second 1 + 2 + 3."""
    layout = Vectors(group(), "node", "sum")
    logits = torch.tensor([[1, 2, 3], [5, 6, 7], [1, 1, 1], [2, 1, 1], [3, 1, 2]], dtype=torch.double).log()
    found = layout.log_probs(logits).exp()
    expected = torch.tensor([[6, 2, 3, 6, 7, 0, 0], [6, 1, 1, 1, 1, 1, 2]], dtype=torch.double)
    torch.testing.assert_close(found, expected / expected.sum(dim=1, keepdim=True))
    torch.testing.assert_close(layout.shares(found).sum(), torch.tensor(2.0, dtype=torch.double))
