"""What a search keeps of what its posterior ranks: the likeliest that has not collapsed."""

from __future__ import annotations

import math
from dataclasses import replace

from datanas.engine.collapse import is_collapsed
from datanas.samplers.derivation import LOG_P, Derivation
from datanas.samplers.interface import BaseSampler
from datanas.spaces.base import Space

FEW, LOOKED_AT = 10, 200
"""How many of the likeliest architectures are looked at for one that has not collapsed, at first and at most."""
_NEAR = math.log(1000)  # how much less likely it may be: beyond that P has decided to collapse


def derive_uncollapsed(sampler: BaseSampler, space: Space, n: int = 1) -> Derivation:
    """As `Sampler.derive`, without the architectures that have collapsed (`is_collapsed`) among the likeliest.

    The kept architecture notes as `passed_over` how many likelier ones were left out. Where the ranking is not one of
    P, is to be taken `raw`, or has nothing else among the `LOOKED_AT` likeliest that is at least a thousandth as
    likely, all stays as derived.
    """
    derivation = sampler.derive(n)
    if derivation.measure != LOG_P or sampler.derivation.raw:
        return derivation
    if not any(is_collapsed(each, space) for each, _ in derivation.ranking):
        return derivation
    for count in (n + FEW, n + LOOKED_AT):  # a long ranking takes a second
        ranking = sampler.derive(count).ranking
        left = [index for index, (each, _) in enumerate(ranking) if not is_collapsed(each, space)]
        if len(left) >= n:
            break
    if not left or ranking[left[0]][1] < ranking[0][1] - _NEAR:
        return derivation
    if left[0] == 0:
        return replace(derivation, ranking=tuple(ranking[index] for index in left[:n]))
    architecture, number = ranking[left[0]]
    notes = {name: value for name, value in (derivation.architecture.posterior or {}).items() if name != "margin"}
    architecture = replace(architecture, posterior={**notes, "log_prob": number, "passed_over": left[0]})
    return replace(
        derivation,
        architecture=architecture,
        ranking=((architecture, number), *(ranking[index] for index in left[1:n])),
    )
