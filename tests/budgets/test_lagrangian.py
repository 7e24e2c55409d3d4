"""Bounds in the alpha loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from datanas import posterior
from datanas.budgets.base import CostTable
from datanas.budgets.lagrangian import RATE, RHO, BudgetLoss

TABLES = {
    "macs": CostTable(10.0, {"cell": np.array([[0.0, 5.0, 50.0], [0.0, 1.0, 30.0]])}),
    "parameters": CostTable(0.0, {"cell": np.array([[0.0, 2.0, 2.0], [0.0, 1.0, 4.0]])}),
}
SAMPLES = 3


def inclusion(alpha: Tensor) -> dict[str, Tensor]:
    return {"cell": posterior.inclusion_probs(alpha.softmax(dim=1), SAMPLES)}


def flat() -> Tensor:
    return torch.zeros(2, 3, dtype=torch.double)


def test_the_expectation_is_that_of_drawn_codes() -> None:
    alpha = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    budget = BudgetLoss(TABLES, {"macs": 40.0}, {}, inclusion(alpha))
    codes = posterior.sample(alpha.softmax(dim=1), SAMPLES, 40_000, generator=torch.Generator().manual_seed(1))
    drawn = 10 + (codes * torch.from_numpy(TABLES["macs"].tables["cell"])).sum(dim=(1, 2))
    assert float(budget.expected(inclusion(alpha))["macs"]) == pytest.approx(float(drawn.mean()), rel=0.01)


def test_within_the_bound_nothing_is_added_and_beyond_it_the_square() -> None:
    loose = BudgetLoss(TABLES, {"macs": 1000.0}, {}, inclusion(flat()))
    assert float(loose.loss(inclusion(flat()))) == 0.0
    tight = BudgetLoss(TABLES, {"macs": 20.0}, {}, inclusion(flat()))
    passed = float(tight.expected(inclusion(flat()))["macs"]) / 20 - 1
    assert float(tight.loss(inclusion(flat()))) == pytest.approx(RHO * passed**2 / 2, rel=1e-6)
    tight.adapt(inclusion(flat()))
    assert tight.multipliers["macs"] == pytest.approx(RATE * passed)


@pytest.mark.parametrize("bounds", [{"macs": 40.0}, {"macs": 60.0, "parameters": 3.0}])
def test_against_a_task_that_wants_dear_operations_the_bound_is_reached_and_kept(bounds: dict[str, float]) -> None:
    """A linear task; its constrained optimum is at the bound, whatever the size of its gradient."""
    for wish in (0.01, 1.0):
        alpha = flat().requires_grad_()
        budget = BudgetLoss({name: TABLES[name] for name in bounds}, bounds, {}, inclusion(flat()))
        optimizer = torch.optim.Adam([alpha], lr=0.02, betas=(0.5, 0.999))
        last = []
        for step in range(3000):
            found = inclusion(alpha)
            loss = -wish * found["cell"][:, 2].sum() + budget.loss(found)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            budget.adapt({name: each.detach() for name, each in found.items()})
            if step >= 2500:
                last.append({name: float(value.detach()) for name, value in budget.expected(found).items()})
        ratios = [np.mean([each[name] for each in last]) / bound for name, bound in bounds.items()]
        assert max(ratios) == pytest.approx(1.0, abs=0.03)
        assert all(ratio <= 1.03 for ratio in ratios)


def test_a_fixed_weight_takes_the_place_of_a_multiplier() -> None:
    budget = BudgetLoss(TABLES, {"macs": 20.0}, {"macs": 0.5, "parameters": 2.0}, inclusion(flat()))
    assert budget.multipliers == {}
    expected = budget.expected(inclusion(flat()))
    assert float(budget.loss(inclusion(flat()))) == pytest.approx(0.5 * float(expected["macs"]) / 20 + 2.0, rel=1e-6)


def test_its_state_goes_on() -> None:
    first, second = (BudgetLoss(TABLES, {"macs": 20.0}, {}, inclusion(flat())) for _ in range(2))
    first.adapt(inclusion(flat()))
    second.load_state_dict(first.state_dict())
    assert second.multipliers == first.multipliers != {"macs": 0.0}
