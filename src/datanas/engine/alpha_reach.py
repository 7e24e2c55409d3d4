"""How far the alpha steps of a search can take P at best, whatever the gradients are."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datanas.samplers.interface import BaseSampler

if TYPE_CHECKING:
    from datanas.engine.search import SearchJob

FLAT = 0.6
"""Log-odds that leave P nearly flat: of eight operations that began alike none has more than 0.21."""
_STRIDES = 8


def log_odds_within(sampler: BaseSampler, movement: float) -> float:
    """How much the log-odds of one entry of P can rise if no parameter moves by more than `movement`.

    All parameters climb together, in a few strides along the signs of their gradients. For a softmax of alpha that is
    2 `movement`: one logit rises, the others fall. Infinite where the sampler's P has no gradient to tell it by.

    Args:
        sampler: one that learns, with parameters that the engine's optimiser moves; it stays as it is.
        movement: at least 0.
    """
    sampler = deepcopy(sampler)
    parameters = list(sampler.parameters())
    before = _log_odds(sampler)
    if not before.requires_grad:
        return float("inf")
    for _ in range(_STRIDES):
        slopes = torch.autograd.grad(_log_odds(sampler), parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                if slope is not None:
                    parameter.add_(slope.sign(), alpha=movement / _STRIDES)
    return float((_log_odds(sampler) - before).detach())


def _log_odds(sampler: BaseSampler) -> Tensor:
    """Of the last entry of the first vector; it is never a merged `none`."""
    probs = sampler.draw(0.0, torch.Generator().manual_seed(0)).probs
    name, layout = next(iter(sampler.vectors.items()))
    entry = int(layout.mask[0].nonzero()[-1])
    return torch.logit(probs[name][0, entry].double(), eps=1e-12)


def flat_warning(job: SearchJob) -> str | None:
    """A warning where no gradient can lead P away from flat; None of a method whose alpha Adam does not move."""
    sampler = job.sampler
    if not (sampler.learns and sampler.uses_optimizer and list(sampler.parameters())):
        return None
    made, rate = sum(map(job.times.alpha_steps, range(job.length))), job.config.search.alpha.lr
    if log_odds_within(sampler, made * rate) >= FLAT:
        return None
    return (
        f"{made} alpha steps in the whole search, at a rate of {rate:g}: Adam moves an alpha by at most about rate x "
        f"steps = {made * rate:.2g}, so P can hardly move. What helps: a larger --search.alpha.lr, more "
        "--search.epochs, a smaller --search.batch_size"
    )
