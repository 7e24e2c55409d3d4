"""What an alpha step descends on: the gates of its child, and the task's loss through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datanas.engine.hypergradient import unrolled_loss
from datanas.engine.sections import SearchConfig
from datanas.engine.steps import autocast
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import Gates, host_gates
from datanas.samplers.interface import Draw

if TYPE_CHECKING:
    from datanas.engine.search import SearchJob


def alpha_gates(draw: Draw, settings: SearchConfig, device: torch.device, chance: torch.Generator) -> dict[str, Gates]:
    """The gates of an alpha step: which are open, and which closed ones are asked for their gradient.

    Args:
        chance: of the random share of closed gates, where `search.gradient` asks for one.
    """
    gates = {
        name: group.with_grad(settings.gradient.kind, settings.gradient.share, chance)
        for name, group in host_gates(draw.gates, device, dense=settings.execution == "dense").items()
    }
    if draw.grad_mask is None:
        return gates
    return {name: group.grad_only_within(draw.grad_mask[name]) for name, group in gates.items()}


def alpha_loss(job: SearchJob, gates: Mapping[str, Gates], step: int, number: int) -> Tensor:
    """The task's loss on the alpha part, from which the gradient reaches the gates if the method learns by it.

    Args:
        step: of the search, whose batch of the weights' part an unrolled step looks ahead with.
        number: of the alpha step.
    """
    settings, task = job.config.search, job.task
    batch = task.batch("alpha", number)
    if settings.hypergradient.kind == "unrolled":
        ahead = task.batch("weights", step)
        return unrolled_loss(
            job.supernet,
            task,
            gates,
            (ahead, batch),
            job.weight_optimizer,
            xi=job.times.weight_rate(step) * task.lr_scale(ahead),
            product=settings.hypergradient.product,
            precision=settings.precision,
        )
    with (
        frozen(job.supernet.parameters()),
        autocast(job.device, settings.precision),
        torch.set_grad_enabled(job.sampler.differentiable),
    ):
        return task.loss(job.supernet.child(gates), batch)
