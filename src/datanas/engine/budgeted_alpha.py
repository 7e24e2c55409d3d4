"""How alpha heeds a budget: what its loss holds, and where it starts."""

from __future__ import annotations

import torch
from torch import Tensor

from datanas.budgets.lagrangian import BudgetLoss
from datanas.engine.budget import Budget
from datanas.samplers.base import Sampler
from datanas.samplers.interface import BaseSampler

_HALVINGS, _STEEPEST = 40, 2.0**20


def loss_of(budget: Budget | None, sampler: BaseSampler) -> BudgetLoss | None:
    """What a budget adds to the alpha loss; None where nothing that adds up is bounded or weighted.

    Nor where no gradient of P leads to alpha: such a method heeds the bounds where it chooses.
    """
    if budget is None or not budget.tables or not (sampler.learns and sampler.differentiable):
        return None
    return BudgetLoss(budget.tables, budget.bounds, budget.config.weights, expected_inclusion(sampler))


def expected_inclusion(sampler: BaseSampler) -> dict[str, Tensor]:
    """How likely each operation is to be in the network that is kept, as P stands."""
    with torch.no_grad():
        return sampler.inclusion_of({name: sampler.vector_probs(name) for name in sampler.vectors})


def start_within(sampler: BaseSampler, budget: BudgetLoss | None) -> None:
    """Lower the starting alpha of dear operations until every expected cost is within its bound.

    P is multiplied by exp(-t c) with c the sum of an operation's costs in units of their bounds, of those costs that
    pass theirs: of all P within them that of the least relative entropy to where alpha was, for one bound and one
    draw. t is the least that will do. A method whose alpha starts in its own way is left there.
    """
    if budget is None or not isinstance(sampler, Sampler):
        return
    with torch.no_grad():
        before = {name: sampler.logits(name).detach().clone() for name in sampler.vectors}
    passed = budget.passed(expected_inclusion(sampler))
    if not passed:
        return
    slopes = budget.slopes(passed)

    def passes(steepness: float) -> bool:
        sampler.start_from({name: each - steepness * slopes[name].to(each) for name, each in before.items()})
        return bool(budget.passed(expected_inclusion(sampler)))

    low, high = 0.0, 1.0
    try:
        while passes(high) and high < _STEEPEST:
            low, high = high, 2 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if passes(middle) else (low, middle)
        passes(high)
    except NotImplementedError:
        return
