"""Thresholds, label features and the loss of selected pairs, against loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from datanas.tasks.adaptive_pairs import (
    MEETING,
    Relations,
    cluster_shares,
    label_features,
    pair_loss,
    pair_losses,
    raised,
    relations,
    similarities,
    thresholds,
)

SHAPES = [(2, 2), (5, 3), (9, 10)]


def logits(images: int, clusters: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(images, clusters, dtype=dtype, generator=torch.Generator().manual_seed(images))


def brute_force(cosines: Tensor, believed: Tensor, upper: float, lower: float) -> tuple[float, int]:
    """The sum of losses and the number of pairs, pair by pair."""
    total, count = 0.0, 0
    for i in range(len(cosines)):
        for j in range(i):
            if believed[i, j] >= upper:
                total -= math.log(cosines[i, j])
            elif believed[i, j] < lower:
                total -= math.log(1 - cosines[i, j])
            else:
                continue
            count += 1
    return total, count


def test_autocast_leaves_cosines_their_digits() -> None:
    """Which thresholds need, and without which no pair's loss could pass 4.9."""
    features = label_features(logits(9, 10, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarities(features)
    assert torch.equal(found, similarities(features))


def test_thresholds_start_apart_and_meet_at_one_half() -> None:
    assert thresholds(0.0) == (0.95, 0.455)
    assert thresholds(0.2) == pytest.approx((0.75, 0.475))
    assert thresholds(MEETING) == pytest.approx((0.5, 0.5), abs=1e-15)


@pytest.mark.parametrize("value", [-1e-9, MEETING + 1e-9, float("nan")])
def test_a_lambda_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"lambda must be in 0\.\.0\.45, got"):
        thresholds(value)


def test_lambda_descends_the_gradient_of_the_distance_between_the_thresholds() -> None:
    value = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    upper, lower = 0.95 - value, 0.455 + 0.1 * value
    (slope,) = torch.autograd.grad(upper - lower, value)
    assert raised(0.1, 0.009) == pytest.approx(0.1 - 0.009 * float(slope))


@given(st.floats(1e-4, 10))
def test_thresholds_never_cross(eta: float) -> None:
    value, steps = 0.0, 0
    while value < MEETING and steps < 200:
        before, value, steps = value, raised(value, eta), steps + 1
        assert value > before
        upper, lower = thresholds(value)
        assert upper >= lower
    assert raised(MEETING, eta) == MEETING


def test_the_papers_step_makes_them_meet_after_46_passes() -> None:
    value, passes = 0.0, 0
    while value < MEETING:
        value, passes = raised(value, 0.009), passes + 1
    assert passes == 46


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_label_features_lie_on_the_positive_part_of_the_sphere(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = logits(*shape, dtype)
    found = label_features(x)
    assert found.dtype == dtype
    assert (found >= 0).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(shape[0], dtype=dtype))
    torch.testing.assert_close(found, x.exp() / x.exp().norm(dim=1, keepdim=True))
    assert torch.equal(found.argmax(dim=1), x.argmax(dim=1))


def test_large_and_half_precision_logits_are_no_danger() -> None:
    found = label_features(torch.tensor([[500.0, 0.0], [-500.0, -500.0]], dtype=torch.bfloat16))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))


@pytest.mark.parametrize("shape", SHAPES)
def test_shares_are_the_softmax_again(shape: tuple[int, int]) -> None:
    x = logits(*shape)
    torch.testing.assert_close(cluster_shares(label_features(x)), x.softmax(dim=1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [0.0, 0.2, MEETING])
def test_the_loss_is_that_of_a_loop_over_pairs(shape: tuple[int, int], value: float) -> None:
    cosines = similarities(label_features(logits(*shape)))
    upper, lower = thresholds(value)
    total, count = brute_force(cosines, cosines, upper, lower)
    found = pair_losses(cosines, relations(cosines, upper, lower))
    assert float(found[0]) == pytest.approx(total)
    assert int(found[1]) == count
    assert float(pair_loss(cosines, relations(cosines, upper, lower))) == pytest.approx(total / max(count, 1))


def test_pairs_may_be_known_from_elsewhere() -> None:
    cosines, believed = (similarities(label_features(logits(n, 4))[:6]) for n in (6, 7))
    total, count = brute_force(cosines, believed, 0.7, 0.4)
    found = pair_losses(cosines, relations(believed, 0.7, 0.4))
    assert (float(found[0]), int(found[1])) == (pytest.approx(total), count)
    assert total != pytest.approx(brute_force(cosines, cosines, 0.7, 0.4)[0])


def test_a_pair_at_a_threshold() -> None:
    """From the upper one on pairs are similar; at the lower one they are not yet dissimilar."""
    cosines = torch.tensor([[1.0, 0.75, 0.25], [0.75, 1.0, 0.5], [0.25, 0.5, 1.0]])
    found = relations(cosines, upper=0.75, lower=0.25)
    assert found.selected.nonzero().tolist() == [[0, 1]]
    assert bool(found.similar[0, 1])
    met = relations(cosines, upper=0.5, lower=0.5)
    assert met.selected.nonzero().tolist() == [[0, 1], [0, 2], [1, 2]]
    assert met.similar[met.selected].tolist() == [True, False, True]


def test_thresholds_that_have_crossed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must not exceed the upper one, got 0\.6 and 0\.4"):
        relations(torch.eye(2), upper=0.4, lower=0.6)


def test_without_a_selected_pair_the_loss_is_zero_and_its_gradient_too() -> None:
    x = logits(4, 3).requires_grad_()
    cosines = similarities(label_features(x))
    nothing = Relations(cosines > 2, cosines > 2)
    loss = pair_loss(cosines, nothing)
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pair_that_is_surely_mistaken_costs_much_but_no_infinity(dtype: torch.dtype) -> None:
    cosines = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=dtype, requires_grad=True)
    every = torch.ones(3, 3, dtype=torch.bool).triu(1)
    mistaken = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]], dtype=torch.bool)
    loss = pair_loss(cosines, Relations(mistaken, every))
    assert loss.item() == pytest.approx(-math.log(torch.finfo(dtype).eps))
    loss.backward()
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()


def test_learning_from_pairs_parts_them_further() -> None:
    x = logits(12, 3).requires_grad_()
    before = similarities(label_features(x)).detach()
    known = relations(before, *thresholds(0.0))
    for _ in range(200):
        (gradient,) = torch.autograd.grad(pair_loss(similarities(label_features(x)), known), x)
        x = (x - gradient).detach().requires_grad_()
    after = similarities(label_features(x))
    similar = known.selected & known.similar
    unlike = known.selected & ~known.similar
    assert after[similar].mean() > before[similar].mean()
    assert after[unlike].mean() < before[unlike].mean()
