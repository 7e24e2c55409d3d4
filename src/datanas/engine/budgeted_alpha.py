"""How alpha heeds a budget: what its loss holds, and where it starts."""

from __future__ import annotations

import torch
from torch import Tensor

from datanas.budgets.lagrangian import BudgetLoss
from datanas.engine.budget import Budget
from datanas.samplers.base import Sampler
from datanas.samplers.interface import BaseSampler
from datanas.samplers.vectors import Vectors


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
    """Let alpha start where the operations of the likeliest architecture within the bounds are the likeliest.

    Where the expected cost passes a bound, these operations exchange their numbers in each vector with those that have
    larger ones: P is as sharp as before, and what else it prefers stays in its order. Making dear operations less
    likely until the expected cost is within its bound would treat all edges alike, and leaves little but identities
    (docs/budgets.md). A method whose alpha starts in its own way is left there.
    """
    if budget is None or sampler.limits is None or not isinstance(sampler, Sampler):
        return
    if not budget.passed(expected_inclusion(sampler)):
        return
    chosen = {name: torch.from_numpy(code.copy()) for name, code in sampler.derive().architecture.code.items()}
    with torch.no_grad():
        logits = {name: _exchanged(sampler.logits(name), chosen[name], sampler.vectors[name]) for name in chosen}
    try:
        sampler.start_from(logits)
    except NotImplementedError:
        return


def _exchanged(logits: Tensor, code: Tensor, layout: Vectors) -> Tensor:
    """The numbers of each vector, given anew: the largest to what is chosen there, all else in its former order."""
    group, exchanged = layout.group, logits.clone()
    for members in layout.members:
        entries = [(edge, op) for edge in members for op in range(group.shape[1]) if group.single or op != group.null]
        is_chosen = {entry: bool(code[entry]) for entry in entries}
        if group.single and not any(is_chosen.values()) and group.null is not None:
            is_chosen[members[0], group.null] = True
        by_size = sorted(entries, key=lambda entry: -float(logits[entry]))
        wanted = sorted(by_size, key=lambda entry, chosen=is_chosen: not chosen[entry])  # type: ignore[misc]
        for entry, source in zip(wanted, by_size, strict=True):
            exchanged[entry] = logits[source]
    return exchanged
