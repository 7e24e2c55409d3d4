"""Prototypes, distances and scores against loops over classes, queries and dimensions."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas.tasks.prototypes import accuracies, half_width, log_probs, of_own_class, prototypes, squared_distances

SIZES = st.tuples(*(st.integers(1, 4) for _ in range(5)))


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loops(embedded: Tensor, shot: int) -> Tensor:
    """log_probs of one episode, one number at a time."""
    way, each, size = embedded.shape
    centres = [[sum(float(embedded[c, s, d]) for s in range(shot)) / shot for d in range(size)] for c in range(way)]
    found = torch.zeros(way, each - shot, way, dtype=torch.double)
    for c in range(way):
        for q in range(each - shot):
            query = embedded[c, shot + q].tolist()
            weights = [math.exp(-sum((a - b) ** 2 for a, b in zip(query, centre, strict=True))) for centre in centres]
            found[c, q] = torch.tensor([math.log(weight / sum(weights)) for weight in weights])
    return found


@settings(deadline=None)
@given(SIZES, st.integers(0, 99))
def test_scores_are_those_of_the_definition(sizes: tuple[int, ...], seed: int) -> None:
    episodes, way, shot, query, size = sizes
    embedded = points(episodes, way, shot + query, size, seed=seed)
    found = log_probs(embedded, shot)
    assert found.shape == (episodes, way, query, way)
    for episode in range(episodes):
        torch.testing.assert_close(found[episode], loops(embedded[episode], shot))


@settings(deadline=None)
@given(SIZES, st.integers(0, 99))
def test_own_classes_and_accuracy_are_those_of_loops(sizes: tuple[int, ...], seed: int) -> None:
    episodes, way, query, _, _ = sizes
    scores = points(episodes, way, query, way, seed=seed)
    own, share = of_own_class(scores), accuracies(scores)
    assert own.shape == (episodes, way, query)
    for e in range(episodes):
        right = 0
        for c in range(way):
            for q in range(query):
                assert own[e, c, q] == scores[e, c, q, c]
                right += int(scores[e, c, q].argmax()) == c
        assert float(share[e]) == pytest.approx(right / (way * query))


def test_the_temperature_divides_squared_distances() -> None:
    embedded = points(2, 3, 4, 5)
    torch.testing.assert_close(log_probs(embedded, 2, 9.0), log_probs(embedded / 3, 2))


def test_prototypes_are_means_of_shots() -> None:
    support = points(2, 3, 4, 5)
    expected = sum(support[:, :, shot] for shot in range(4)) / 4
    torch.testing.assert_close(prototypes(support), expected)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_distances_are_squared_euclidean(lead: tuple[int, ...]) -> None:
    queries, centres = points(*lead, 4, 6), points(*lead, 3, 6, seed=1)
    expected = (queries[..., :, None, :] - centres[..., None, :, :]).square().sum(-1)
    torch.testing.assert_close(squared_distances(queries, centres), expected)


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    """Without moving the points first, float would have no digit left of these."""
    queries, centres = points(4, 6), points(3, 6, seed=1)
    found = squared_distances((queries + 4096).float(), (centres + 4096).float())
    expected = squared_distances(queries, centres)
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)
    far = (queries + 4096).float(), (centres + 4096).float()
    plain = far[0].square().sum(-1, keepdim=True) - 2 * far[0] @ far[1].T + far[1].square().sum(-1)
    assert (plain.double() - expected).abs().max() > 0.1


def test_gradients_are_those_of_finite_differences() -> None:
    embedded = points(2, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: of_own_class(log_probs(x, 1)), embedded)
    assert torch.autograd.gradgradcheck(lambda x: of_own_class(log_probs(x, 1)), embedded)


def test_scores_are_exact_under_autocast() -> None:
    embedded = points(1, 3, 3, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_probs(embedded, 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, log_probs(embedded, 1))


def test_the_half_width_is_that_of_the_normal_interval() -> None:
    values = [0.5, 0.7, 0.9, 0.6]
    assert half_width(torch.tensor(values)) == pytest.approx(1.96 * statistics.stdev(values) / 2, rel=1e-4)
    assert half_width(torch.tensor([0.4, 0.4])) == 0


def test_half_the_width_of_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        half_width(torch.tensor([0.5]))
