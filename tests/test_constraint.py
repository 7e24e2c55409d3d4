from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from datanas.constraint import KINDS, constraint

PROBS = [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]
GATES = [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]


def pair(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(PROBS, dtype=dtype), torch.tensor(GATES, dtype=dtype)


def term(p: float, f: float, kind: str, power: float = 1.0, eps: float = 1e-3) -> float:
    """One entry of Eq. 12 and 16-19, by hand."""
    if kind in ("l1", "power"):
        return abs(p - f) ** power
    if kind == "l2":
        return (p - f) ** 2
    if kind == "kl":
        return p * math.log(p / ((1 - eps) * f + eps))
    return -p * math.log(p)


def by_hand(kind: str, power: float = 1.0, eps: float = 1e-3) -> float:
    return sum(
        term(p, f, kind, power, eps)
        for row, code in zip(PROBS, GATES, strict=True)
        for p, f in zip(row, code, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_value_by_hand(kind: str, dtype: torch.dtype) -> None:
    value = constraint(*pair(dtype), kind)
    assert value.dtype == dtype
    assert value.shape == ()
    assert value.item() == pytest.approx(by_hand(kind), rel=1e-6)


@pytest.mark.parametrize("kind", ["l1", "power"])
@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_power_is_the_exponent_of_equation_12(kind: str, power: float) -> None:
    assert constraint(*pair(), kind, power).item() == pytest.approx(by_hand(kind, power))


def test_power_two_is_l2() -> None:
    torch.testing.assert_close(constraint(*pair(), "power", 2.0), constraint(*pair(), "l2"))


def test_eps_smooths_the_code_of_kl() -> None:
    assert constraint(*pair(), "kl", eps=0.1).item() == pytest.approx(by_hand("kl", eps=0.1))
    assert constraint(*pair(), "kl", eps=0.1) < constraint(*pair(), "kl", eps=1e-6)


def test_entropy_ignores_the_code() -> None:
    probs, gates = pair()
    assert torch.equal(constraint(probs, gates, "entropy"), constraint(probs, 1 - gates, "entropy"))


def test_l1_of_one_edge_leaves_its_closed_form() -> None:
    # With sum P = 1 it is (number of ones) + 1 - 2 (mass on the ones).
    probs, gates = pair()
    assert constraint(probs[1], gates[1]).item() == pytest.approx(2 + 1 - 2 * 0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_divides_by_the_number_of_entries(kind: str) -> None:
    torch.testing.assert_close(constraint(*pair(), kind, reduction="mean") * 6, constraint(*pair(), kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_padding_does_not_count(kind: str, reduction: str) -> None:
    probs, gates = pair()
    padded_probs = torch.cat([probs, torch.full((2, 2), 0.3, dtype=torch.float64)], -1).requires_grad_()
    padded_gates = torch.cat([gates, torch.full((2, 2), 0.6, dtype=torch.float64)], -1)
    mask = torch.tensor([True, True, True, False, False]).expand(2, 5)
    value = constraint(padded_probs, padded_gates, kind, reduction=reduction, mask=mask)
    torch.testing.assert_close(value, constraint(probs, gates, kind, reduction=reduction))
    value.backward()
    assert padded_probs.grad is not None
    assert torch.equal(padded_probs.grad[:, 3:], torch.zeros(2, 2, dtype=torch.float64))
    assert constraint(padded_probs, padded_gates, kind) != constraint(padded_probs, padded_gates, kind, mask=mask)


@pytest.mark.parametrize(
    ("kind", "power"), [("l1", 1.0), ("power", 0.5), ("power", 3.0), ("l2", 1.0), ("kl", 1.0), ("entropy", 1.0)]
)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradient_matches_differences(kind: str, power: float, reduction: str) -> None:
    probs, gates = pair()
    gates = gates * 0.8 + 0.05
    torch.autograd.gradcheck(
        lambda p, f: constraint(p, f, kind, power, through_gates=True, reduction=reduction),
        (probs.requires_grad_(), gates.requires_grad_()),
    )


@pytest.mark.parametrize("kind", ["l1", "l2", "kl"])
def test_gates_are_detached_unless_asked_for(kind: str) -> None:
    probs, gates = pair()
    probs.requires_grad_()
    gates.requires_grad_()
    constraint(probs, gates, kind).backward()
    assert gates.grad is None
    constraint(probs, gates, kind, through_gates=True).backward()
    reached = gates.grad
    assert reached is not None
    assert reached.abs().max() > 0


def test_gates_that_follow_the_probabilities_cancel_only_when_attached() -> None:
    probs = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    (attached,) = torch.autograd.grad(constraint(probs, probs + 0.1, "l2", through_gates=True), probs)
    (detached,) = torch.autograd.grad(constraint(probs, probs + 0.1, "l2"), probs)
    torch.testing.assert_close(attached, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(detached, torch.full((2,), -0.2, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("kind", "power"), [("l1", 1.0), ("power", 0.1), ("power", 2.5), ("l2", 1.0), ("kl", 1.0), ("entropy", 1.0)]
)
@pytest.mark.parametrize("through_gates", [False, True])
def test_extremes_stay_finite(kind: str, power: float, through_gates: bool, dtype: torch.dtype) -> None:
    probs = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5, 1e-38], dtype=dtype, requires_grad=True)
    gates = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.5, 0.0], dtype=dtype, requires_grad=True)
    value = constraint(probs, gates, kind, power, through_gates=through_gates)
    value.backward()
    assert value.isfinite()
    assert probs.grad.isfinite().all()
    assert gates.grad is None or gates.grad.isfinite().all()


def test_entropy_of_certainty_is_zero() -> None:
    assert constraint(torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3), "entropy") == 0


def test_code_equal_to_the_probabilities_costs_nothing() -> None:
    probs = torch.tensor([1.0, 0.0, 0.0])
    for kind in KINDS:
        assert constraint(probs, probs, kind).item() == pytest.approx(0.0, abs=1e-9)


def test_half_precision_becomes_float32() -> None:
    probs, gates = pair(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = constraint(probs.bfloat16(), gates, "kl")
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, constraint(probs.bfloat16().float(), gates, "kl"))


@pytest.mark.parametrize("kind", ["l2", "kl", "entropy"])
def test_power_is_refused_by_the_other_kinds(kind: str) -> None:
    with pytest.raises(ValueError, match="power is for"):
        constraint(*pair(), kind, 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "l3"}, "kind must be one of l1, power, l2, "),
        ({"reduction": "max"}, "reduction must be"),
        ({"power": 0.0}, "power must be"),
        ({"power": -1.0}, "power must be"),
        ({"power": math.inf}, "power must be"),
        ({"kind": "kl", "eps": 0.0}, "eps must be"),
        ({"kind": "kl", "eps": 1.0}, "eps must be"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        constraint(*pair(), **options)


@pytest.mark.usefixtures("unchecked")
def test_shapes_must_agree() -> None:
    probs, gates = pair()
    with pytest.raises(ValueError, match=r"^gates must have the shape \(2, 3\) of probs, got \(3,\)"):
        constraint(probs, gates[0])
    with pytest.raises(ValueError, match=r"^mask must have the shape \(2, 3\) of probs, got \(3,\)"):
        constraint(probs, gates, mask=torch.ones(3, dtype=torch.bool))
