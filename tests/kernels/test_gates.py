"""Which gradients closed gates are asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datanas.kernels.gates import ClosedGradient, Gates, host_gates

CODE = torch.tensor([[0.0, 1.0, 0.0, 0.25], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
CLOSED = 9


def grad_mask(kind: ClosedGradient, share: float = 0.5, seed: int = 0, code: Tensor = CODE) -> Tensor:
    gates = Gates.of(code).with_grad(kind, share, torch.Generator().manual_seed(seed))
    assert gates.grad_mask is not None
    return torch.tensor(gates.grad_mask, dtype=torch.double)


def test_exact_leaves_the_gates_alone() -> None:
    gates = Gates.of(CODE)
    assert gates.with_grad("exact", 0.5, torch.Generator()) is gates
    assert gates.grad_mask is None


def test_sampled_asks_for_open_gates_only() -> None:
    assert torch.equal(grad_mask("sampled"), (CODE != 0).double())


@pytest.mark.parametrize(
    ("share", "count"), [(1.0, 9), (0.5, round(4.5)), (0.6, 5), (1 / 3, 3), (0.2, 2), (0.01, 1), (1e-9, 1)]
)
def test_subsampled_asks_for_a_share_of_the_closed(share: float, count: int) -> None:
    found = grad_mask("subsampled", share)[CODE == 0]
    assert (found != 0).sum() == count
    torch.testing.assert_close(found[found != 0], torch.full((count,), CLOSED / count, dtype=torch.double))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
def test_open_gates_count_once(share: float) -> None:
    assert (grad_mask("subsampled", share)[CODE != 0] == 1).all()


@pytest.mark.parametrize("share", [1.0, 0.4, 0.01])
def test_factors_of_closed_gates_add_up_to_their_number(share: float) -> None:
    assert grad_mask("subsampled", share)[CODE == 0].sum() == pytest.approx(CLOSED)


def test_expected_factor_is_one() -> None:
    """With the sum above exact it is enough that no closed gate is preferred."""
    draws, generator, gates = 4000, torch.Generator().manual_seed(0), Gates.of(CODE)
    total = torch.zeros_like(CODE)
    for _ in range(draws):
        total += torch.tensor(gates.with_grad("subsampled", 0.3, generator).grad_mask)
    # 3 of 9 are chosen: the factor 3 has variance 2, so that 0.1 is more than four deviations of the mean.
    torch.testing.assert_close(total / draws, torch.ones_like(CODE), rtol=0, atol=0.1)


def test_the_seed_decides() -> None:
    assert torch.equal(grad_mask("subsampled", seed=3), grad_mask("subsampled", seed=3))
    assert any(
        not torch.equal(grad_mask("subsampled", seed=3), grad_mask("subsampled", seed=seed)) for seed in range(4, 8)
    )


def test_only_subsampling_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    Gates.of(CODE).with_grad("sampled", 0.5, generator)
    Gates.of(CODE).with_grad("exact", 0.5, generator)
    assert torch.equal(generator.get_state(), before)


def test_all_gates_may_be_open() -> None:
    assert (grad_mask("subsampled", code=torch.ones(2, 3)) == 1).all()


def test_what_runs_does_not_change() -> None:
    values = CODE.clone().requires_grad_()
    gates = Gates.of(values, dense=True)
    found = gates.with_grad("subsampled", 0.5, torch.Generator())
    assert found.values is gates.values
    assert found.host == gates.host
    assert found.dense


WANTED = torch.tensor([[True, False, True, False], [False, True, False, False], [False, False, False, True]])


def test_only_those_wanted_of_the_closed_and_all_open_gates_get_a_gradient() -> None:
    found = Gates.of(CODE).grad_only_within(WANTED)
    assert found.grad_mask is not None
    assert torch.equal(torch.tensor(found.grad_mask), (WANTED | (CODE != 0)).float())


def test_what_is_wanted_keeps_the_factor_that_it_was_asked_with() -> None:
    """After subsampling a gate is asked if both agree, with the factor of the first."""
    for seed in range(5):
        gates = Gates.of(CODE).with_grad("subsampled", 0.5, torch.Generator().manual_seed(seed))
        found = gates.grad_only_within(WANTED)
        before, after = torch.tensor(gates.grad_mask), torch.tensor(found.grad_mask)
        kept = WANTED | (CODE != 0)
        assert torch.equal(after[kept], before[kept])
        assert (after[~kept] == 0).all()
        assert (before[~kept] != 0).any()


def test_wanting_everything_changes_no_factor() -> None:
    gates = Gates.of(CODE).with_grad("subsampled", 0.5, torch.Generator().manual_seed(0))
    assert gates.grad_only_within(torch.ones_like(WANTED)) == gates
    assert (
        gates.grad_only_within(torch.zeros_like(WANTED)).grad_mask
        == Gates.of(CODE).with_grad("sampled", 0.5, torch.Generator()).grad_mask
    )


def test_wanting_some_does_not_change_what_runs() -> None:
    gates = Gates.of(CODE.clone().requires_grad_(), dense=True)
    found = gates.grad_only_within(WANTED)
    assert found.values is gates.values
    assert found.host == gates.host
    assert found.dense


def test_host_gates_hold_the_same_numbers_twice() -> None:
    found = host_gates({"normal": CODE, "reduction": 2 * CODE}, torch.device("cpu"), dense=True)
    assert list(found) == ["normal", "reduction"]
    for gates in found.values():
        assert gates.dense
        assert torch.equal(torch.tensor(gates.host), gates.values)
