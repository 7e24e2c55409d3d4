"""DrNAS: mixtures drawn from a Dirichlet distribution (Chen et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional as F

from datanas.codes.choice_group import ChoiceGroup
from datanas.core import seeding
from datanas.core.settings import Section
from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, NormalStart, Sampler
from datanas.samplers.derivation import Rule


class Anchor(Section):
    """How far the concentrations may go from 1, where the Dirichlet distribution is flat (Eq. 6 there).

    `l2` is half the squared norm of alpha, whose gradient is that of Adam's weight decay, as in the authors' program.
    """

    kind: Literal["none", "l2", "kl"] = "kl"
    weight: float = Field(1e-3, ge=0, description="lambda, the weight in the alpha loss")


@register_sampler("drnas")
class DrNAS(Sampler):
    """Draws the weights of an edge's operations from Dirichlet(elu(alpha) + 1) by pathwise derivatives (Section 3.1).

    Every operation runs in every step. P is the mean of the distribution, and two inputs a node are kept. The
    progressive stages of its Section 3.3 are left out; `parts` gives its partial channels.
    """

    class Config(NormalStart):
        name: Literal["drnas"] = "drnas"
        anchor: Anchor = Anchor()
        parts: int = Field(1, ge=1, description="operations run on one of so many parts of the channels")

    default_rule: ClassVar[Rule] = "top_edges"
    FLOOR: ClassVar[float] = 1e-2
    """Smallest concentration: below it the pathwise derivatives have no useful size."""

    config: Config

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.partial_channels = config.parts

    def concentration(self, name: str) -> Tensor:
        """The parameters of the Dirichlet distributions, shape (edges, ops)."""
        concentration: Tensor = F.elu(self.alpha[name]) + 1
        return concentration.clamp_min(self.FLOOR)

    def logits(self, name: str) -> Tensor:
        return self.concentration(name).log()

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        gates, probs = {}, {}
        # torch's distributions take no generator.
        with seeding.keyed(int(torch.randint(2**62, (), generator=generator)), "dirichlet"):
            for name in self.groups:
                concentration = self.concentration(name)
                if uniform:
                    concentration = torch.ones_like(concentration)
                gates[name] = Dirichlet(concentration).rsample()
                probs[name] = concentration / concentration.sum(dim=1, keepdim=True)
        return Draw(gates, probs, gates)

    def loss(self, task_loss: Tensor, draw: Draw, progress: float) -> Tensor:
        anchor = self.config.anchor
        if anchor.kind == "none":
            return task_loss
        total = torch.zeros(())
        for name in self.groups:
            if anchor.kind == "kl":
                concentration = self.concentration(name)
                total = total + kl_divergence(Dirichlet(concentration), Dirichlet(torch.ones_like(concentration))).sum()
            else:
                total = total + self.alpha[name].square().sum() / 2
        return task_loss + anchor.weight * total.to(task_loss.device)
