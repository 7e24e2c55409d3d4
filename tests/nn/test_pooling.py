"""Pooling by codes, one for images, sequences and graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas.nn import EnsemblePooling


def make(**options: Any) -> EnsemblePooling:
    torch.manual_seed(0)
    return EnsemblePooling(3, 5, 2, **options).double().eval()


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("samples", [1, 3])
def test_in_evaluation_features_are_those_of_drawn_codes_on_average(aggregate: Any, samples: int) -> None:
    pool = EnsemblePooling(3, 4, samples, aggregate=aggregate).double()
    torch.nn.init.zeros_(pool.logits.weight)  # so that all items are alike
    x, draws = numbers(1, 5, 3), 20_000
    with torch.no_grad():
        mask = torch.tensor([[True, True, False, True, True]])
        drawn = pool.train()(x.expand(draws, -1, -1), mask=mask.expand(draws, -1)).features.mean(0)
        found = pool.eval()(x, mask=mask).features[0]
    torch.testing.assert_close(found, drawn, atol=0.04, rtol=0)


def test_sums_are_exact_of_items_that_differ() -> None:
    pool, x = EnsemblePooling(3, 4, 2, aggregate="sum").double(), numbers(1, 5, 3)
    with torch.no_grad():
        drawn = pool.train()(x.expand(20_000, -1, -1)).features.mean(0)
        torch.testing.assert_close(pool.eval()(x).features[0], drawn, atol=0.06, rtol=0)


@pytest.mark.parametrize("evaluation", ["expected", "likeliest"])
def test_an_empty_graph_and_padding_are_nothing_in_evaluation(evaluation: Any) -> None:
    pool = make(evaluation=evaluation)
    found = pool(numbers(2, 3, 3), mask=torch.tensor([[False] * 3, [True, False, False]]))
    assert not found.features[0].any()
    torch.testing.assert_close(found.features[1], pool(numbers(2, 3, 3)[1:, :1]).features[0])


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.double, generator=torch.Generator().manual_seed(4))


def by_hand(pool: EnsemblePooling, items: Tensor, aggregate: str) -> Tensor:
    """Cluster by cluster, item by item."""
    code = pool.assign(pool.logits(items))
    found = torch.zeros(5, 3, dtype=torch.double)
    for cluster in range(5):
        members = [item for item, row in zip(items, code, strict=True) if row[cluster] == 1]
        if members:
            stacked = torch.stack(members)
            found[cluster] = stacked.sum(0) if aggregate == "sum" else stacked.mean(0)
    return found


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_a_cluster_is_what_its_items_add_up_to(aggregate: str) -> None:
    pool, x = make(aggregate=aggregate, evaluation="likeliest"), numbers(2, 7, 3)
    expected = torch.stack([by_hand(pool, items, aggregate) for items in x])
    torch.testing.assert_close(pool(x).features, expected)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(7)))
def test_reordering_items_reorders_the_code_alone(order: list[int]) -> None:
    pool, x = make(), numbers(2, 7, 3)
    found, other = pool(x), pool(x[:, order])
    torch.testing.assert_close(other.features, found.features)
    assert torch.equal(other.code, found.code[:, order])


def test_an_image_is_a_sequence_of_its_pixels() -> None:
    pool, x = make(), numbers(2, 3, 4, 6)
    image, sequence = pool(x), pool(x.flatten(2).transpose(1, 2))
    torch.testing.assert_close(image.features, sequence.features)
    assert image.code.shape == (2, 5, 4, 6)
    assert torch.equal(image.code.flatten(2).transpose(1, 2), sequence.code)


def test_graphs_are_sequences_of_their_nodes_in_any_order() -> None:
    pool, x = make(), numbers(9, 3)
    index = torch.tensor([1, 0, 1, 3, 0, 3, 3, 1, 3])
    found = pool(x, index=index, size=5)
    for graph in (0, 1, 3):
        alone = pool(x[index == graph].unsqueeze(0))
        torch.testing.assert_close(found.features[graph], alone.features[0])
        assert torch.equal(found.code[index == graph], alone.code[0])
    assert found.features.shape == (5, 5, 3)
    assert not found.features[[2, 4]].any()


def test_reordering_nodes_and_renaming_graphs_changes_nothing_else() -> None:
    pool, x, index = make(), numbers(9, 3), torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    found, other = pool(x, index=index), pool(x[order], index=index[order])
    torch.testing.assert_close(other.features, found.features)
    assert torch.equal(other.code, found.code[order])
    renamed = pool(x, index=2 - index)
    torch.testing.assert_close(renamed.features, found.features.flip(0))


def test_padding_belongs_to_no_cluster() -> None:
    pool, x = make(), numbers(2, 7, 3)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    spoilt = x.masked_fill(~mask.unsqueeze(-1), torch.nan)
    found = pool(spoilt, mask=mask)
    torch.testing.assert_close(found.features[1], pool(x[1:, :4]).features[0])
    assert not found.code[1, 4:].any()
    assert (found.code[mask].sum(-1) >= 1).all()


@pytest.mark.parametrize("kind", ["image", "sequence", "graph"])
def test_every_item_is_in_one_to_m_clusters_while_training(kind: str) -> None:
    pool = make().train()
    given: dict[str, Any] = {
        "image": {"x": numbers(2, 3, 4, 4)},
        "sequence": {"x": numbers(2, 9, 3)},
        "graph": {"x": numbers(9, 3), "index": torch.tensor([0] * 4 + [1] * 5)},
    }[kind]
    counts = pool(**given).code.sum(1 if kind == "image" else -1)
    assert ((counts == 1) | (counts == 2)).all()
    assert len(counts.unique()) == 2


def test_gradients_reach_features_and_assignment() -> None:
    pool, x = make().train(), numbers(2, 9, 3).requires_grad_()
    pool(x).features.square().sum().backward()
    assert pool.logits.weight.grad.any()
    assert x.grad.any()


def test_the_gradient_of_padding_is_zero_and_finite() -> None:
    pool, x = make().train(), numbers(1, 4, 3).requires_grad_()
    mask = torch.tensor([[True, True, False, False]])
    pool(x, mask=mask).features.square().sum().backward()
    assert x.grad is not None
    assert x.grad[0, :2].any()
    assert not x.grad[0, 2:].any()


def test_no_nodes_give_no_features() -> None:
    assert not make()(numbers(0, 3), index=torch.zeros(0, dtype=torch.long), size=2).features.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"x": torch.zeros(3)}, "must be images"),
        ({"x": torch.zeros(2, 4, 5)}, "3 features in dimension -1"),
        ({"x": torch.zeros(2, 4, 5, 3)}, "3 features in dimension 1"),
        ({"x": torch.zeros(4, 3)}, "need the index"),
        ({"x": torch.zeros(1, 4, 3), "index": torch.zeros(4, dtype=torch.long)}, "they alone"),
        ({"x": torch.zeros(4, 3), "mask": torch.ones(4, 1, dtype=torch.bool)}, "a mask is for sequences"),
        ({"x": torch.zeros(1, 4, 3), "mask": torch.ones(1, 5, dtype=torch.bool)}, r"mask must have the shape \(1, 4\)"),
        ({"x": torch.zeros(4, 3), "index": torch.zeros(5, dtype=torch.long)}, r"index must have the shape \(4,\)"),
        ({"x": torch.zeros(1, 3), "index": torch.tensor([2]), "size": 2}, "index must be below size 2, got 2"),
    ],
)
def test_what_does_not_fit_is_refused(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(**{key: value.double() if value_is_float(value) else value for key, value in call.items()})


def value_is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 2, 1), "features must be"), ((2, 0, 1), "clusters must be"), ((2, 2, 0), "samples must be")],
)
def test_settings_that_cannot_be_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnsemblePooling(*arguments)


def test_an_aggregate_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="aggregate must be sum or mean, got 'max'"):
        make(aggregate="max")
