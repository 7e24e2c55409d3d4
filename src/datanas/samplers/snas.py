"""SNAS: a relaxed one-hot sample for each edge, with a constraint on resources (Xie et al., ICLR 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.core.settings import Section
from datanas.egs import gumbel_softmax
from datanas.posterior import expected_cost
from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, NormalStart, Sampler, Tau


class Resource(Section):
    """The constraint on resources (Eq. 9 to 11 there): the expected cost, in units of that of all operations."""

    kind: Literal["none", "parameters", "macs"] = "none"
    weight: float = Field(1.0, ge=0, description="eta, the weight in the alpha loss")


@register_sampler("snas")
class SNAS(Sampler):
    """Weighs the operations of an edge by a concrete sample (Eq. 6 there) and keeps the likeliest, `none` included.

    The expectation of an additive cost is exact here, where SNAS estimates it by sampling. SNAS trains weights and
    alpha on the same batches; here they alternate on two parts of the data, as for every other method.
    """

    class Config(NormalStart):
        name: Literal["snas"] = "snas"
        tau: Tau = Tau(start=1.0, end=0.03)
        resource: Resource = Resource()

    config: Config

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return gumbel_softmax(log_probs, self.config.tau.at(progress), hard=False, generator=generator)

    def loss(self, task_loss: Tensor, draw: Draw, progress: float) -> Tensor:
        resource = self.config.resource
        if resource.kind == "none" or not self.costs:
            return task_loss
        costs = {name: torch.from_numpy(getattr(cost, resource.kind)) for name, cost in self.costs.items()}
        whole = sum(float(cost.sum()) for cost in costs.values()) or 1.0
        expected = sum(
            expected_cost(layout.to_edges(draw.probs[name]), self.samples, costs[name].to(draw.probs[name])).sum()
            for name, layout in self.vectors.items()
        )
        return task_loss + resource.weight * torch.as_tensor(expected / whole).to(task_loss.device)
