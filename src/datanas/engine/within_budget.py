"""What a search keeps under a budget: the best of its ranking whose network, counted, is within all bounds."""

from __future__ import annotations

import warnings
from dataclasses import replace

from datanas.budgets.units import show
from datanas.core.errors import ConfigError
from datanas.engine.budget import Budget, noted
from datanas.engine.timed_latency import LatencyClock
from datanas.engine.uncollapsed import derive_uncollapsed
from datanas.samplers.derivation import LOG_P, Derivation
from datanas.samplers.interface import BaseSampler
from datanas.spaces.base import Space

COUNTED = 64
"""Architectures whose networks are counted at most."""
TIMED = 16
"""And that are timed at most."""


def derive_within(
    sampler: BaseSampler,
    space: Space,
    budget: Budget | None,
    n: int = 1,
    *,
    is_final: bool = True,
    clock: LatencyClock | None = None,
) -> Derivation:
    """As `derive_uncollapsed`, with the first architecture whose network is within all bounds.

    The ranking is within those that add up already (`BaseSampler.limits`); the others, such as peak memory, are
    counted. The kept architecture notes its `costs`, and as `over_budget` how many likelier ones were passed over.

    Args:
        is_final: otherwise, where none of them is within the bounds, the first is returned all the same: a search that
            goes on may still come to one that is.
        clock: what times a network that is within the bounds by the table of latencies. One that misses the bound by
            the clock is passed over. Where all of the `TIMED` best miss it the best by the table is kept, with a
            warning: then the table, or the machine at this moment, is not to be relied upon.

    Raises:
        ConfigError: of the `COUNTED` best none is within the bounds.
    """
    derivation = derive_uncollapsed(sampler, space, n)
    if budget is None or not budget.bounds:
        return derivation
    count, counted = n, 0
    least: dict[str, float] = {}
    missed: tuple[Derivation, int, dict[str, float], float] | None = None  # the best of those that miss by the clock
    times = 0
    while True:
        for index in range(counted, len(derivation.ranking)):
            architecture = derivation.ranking[index][0] if index else derivation.architecture
            costs = budget.costs(architecture)
            if not budget.exceeded(costs):
                timed = None if clock is None else clock(architecture)
                if timed is None or not budget.exceeded({**costs, "latency": timed}):
                    return _choose(derivation, index, costs, n, timed)
                missed, times = missed or (derivation, index, costs, timed), times + 1
                if times == TIMED:
                    return _choose_by_table(*missed, n)
            least = {name: min(value, least.get(name, value)) for name, value in costs.items()}
        counted, is_all = len(derivation.ranking), len(derivation.ranking) < count
        if derivation.measure != LOG_P or is_all or count >= COUNTED:
            if missed is not None:
                return _choose_by_table(*missed, n)
            if not is_final:
                return derivation
            raise ConfigError(
                f"budget: of the {counted} architectures that rank first none is within it: the least that any of them "
                f"has is {budget.text(least)}"
            )
        count = min(COUNTED, max(8, 2 * count))
        derivation = derive_uncollapsed(sampler, space, count)


def _choose_by_table(derivation: Derivation, index: int, costs: dict[str, float], timed: float, n: int) -> Derivation:
    warnings.warn(
        f"budget.latency: no architecture that keeps the bound by its table keeps it by the clock: the best takes "
        f"{show(timed, 'ms')} here, {show(costs['latency'], 'ms')} by the table, and is kept; calibrate anew, or lower "
        "the bound",
        stacklevel=3,
    )
    return _choose(derivation, index, costs, n, timed)


def _choose(derivation: Derivation, index: int, costs: dict[str, float], n: int, timed: float | None) -> Derivation:
    architecture, number = derivation.ranking[index]
    notes = dict((derivation.architecture if index == 0 else architecture).posterior or {})
    if index:
        notes = {name: value for name, value in (derivation.architecture.posterior or {}).items() if name != "margin"}
        notes |= {"log_prob": number, "over_budget": index}
    if timed is not None:
        notes["timed_ms"] = timed
    chosen = noted(replace(architecture, posterior=notes), costs)
    return replace(
        derivation, architecture=chosen, ranking=((chosen, number), *derivation.ranking[index + 1 : index + n])
    )
