from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datanas.kernels import linear_cross_entropy as module
from datanas.kernels.linear_cross_entropy import linear_cross_entropy
from datanas.kernels.switch import plain_kernels

ROWS, WIDTH, CLASSES = 23, 4, 7


def layer(dtype: torch.dtype = torch.double) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    features, weight = torch.randn(ROWS, WIDTH, dtype=dtype), torch.randn(CLASSES, WIDTH, dtype=dtype)
    bias = torch.randn(CLASSES, dtype=dtype)
    return features.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), torch.randint(CLASSES, (ROWS,))


@pytest.mark.parametrize("rows", [1, 5, ROWS, 1000])
def test_value_and_gradients_are_those_of_the_whole_at_any_size_of_a_piece(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", rows * CLASSES)
    features, weight, bias, targets = layer()
    wanted = F.cross_entropy(F.linear(features, weight, bias), targets)
    found = linear_cross_entropy(features, weight, bias, targets)
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(3 * loss, (features, weight, bias)) for loss in (found, wanted)]
    for own, other in zip(*slopes, strict=True):
        torch.testing.assert_close(own, other)


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    features, weight, bias, targets = layer()
    linear_cross_entropy(features, weight.detach(), bias.detach(), targets).backward()
    assert features.grad is not None
    assert weight.grad is None
    assert linear_cross_entropy(features.detach(), weight.detach(), bias.detach(), targets).requires_grad is False


def test_far_logits_stay_finite() -> None:
    features, weight, bias, targets = layer(torch.float32)
    loss = linear_cross_entropy(300 * features, weight, bias, targets)
    loss.backward()
    torch.testing.assert_close(loss, F.cross_entropy(F.linear(300 * features, weight, bias), targets))
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_autocast_makes_the_products_in_its_type() -> None:
    features, weight, bias, targets = layer(torch.float32)
    exact = linear_cross_entropy(features, weight, bias, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rough = linear_cross_entropy(features, weight, bias, targets)
    rough.backward()
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=2e-2, atol=2e-2)


def test_plain_kernels_have_second_derivatives() -> None:
    features, weight, bias, targets = layer()
    with plain_kernels():
        loss = linear_cross_entropy(features, weight, bias, targets)
        (first,) = torch.autograd.grad(loss, features, create_graph=True)
        first.square().sum().backward()
    assert features.grad is not None
