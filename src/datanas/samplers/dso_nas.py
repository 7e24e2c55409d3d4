"""DSO-NAS: scaling factors under a sparse penalty, pruned where they reach zero (Zhang et al., TPAMI 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.samplers import register_sampler
from datanas.samplers.base import Derivation, Draw, Sampler, SamplerConfig, Update
from datanas.spaces.base import ChoiceGroup


@register_sampler("dso_nas")
class DSONAS(Sampler):
    """Scales every operation by a factor of its own, and shrinks the factors towards 0 (Eq. 4, 8 to 10 there).

    A factor that the shrinking takes to 0 closes its operation, which from then on does not run; what is left at the
    end is kept, any number of operations an edge. The shrinking is the proximal step of an L1 penalty after each step
    of the engine's optimiser, where DSO-NAS has an accelerated proximal gradient of its own, and the factors are
    learned on the alpha part, where DSO-NAS learns them with the weights. A closed operation may come back while its
    gradient is asked for; with `search.gradient.kind: sampled` it cannot.
    """

    class Config(SamplerConfig):
        name: Literal["dso_nas"] = "dso_nas"
        sparsity: float = Field(0.3, ge=0, description="gamma: what a step shrinks by, in units of its learning rate")
        init: float | None = Field(None, gt=0, description="every factor at the start; null for 1 / operations")

    independent: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        with torch.no_grad():
            for alpha in self.alpha.values():
                alpha.fill_(1 / alpha.shape[1] if config.init is None else config.init)

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        gates: dict[str, Tensor] = {
            name: torch.full_like(alpha, 1 / alpha.shape[1]) if uniform else alpha for name, alpha in self.alpha.items()
        }
        return Draw(gates, {name: _share(factors, self.groups[name]) for name, factors in gates.items()}, gates)

    def settle(self, update: Update) -> None:
        with torch.no_grad():
            for alpha in self.alpha.values():
                alpha.copy_(alpha.sign() * (alpha.abs() - update.lr * self.config.sparsity).clamp_min(0))

    def vector_probs(self, name: str) -> Tensor:
        return _share(self.alpha[name].detach().double(), self.groups[name])

    def inclusion(self) -> dict[str, Tensor]:
        return {name: (alpha.detach() != 0).double() for name, alpha in self.alpha.items()}

    def derive(self, n: int = 1) -> Derivation:
        if self.derivation.rule is not None or self.holds_one:
            return super().derive(n)
        kept = self.assemble({name: (alpha.detach() != 0).float() for name, alpha in self.alpha.items()})
        return Derivation(kept, ((kept, 0.0),))


def _share(factors: Tensor, group: ChoiceGroup) -> Tensor:
    """Absolute factors over their sum, shape (edges, ops); where all are 0, all on `none`, or even without it."""
    size = factors.abs()
    rest = torch.full_like(size, 1 / size.shape[1])
    if group.null is not None:
        rest = torch.zeros_like(size)
        rest[:, group.null] = 1.0
    total = size.sum(dim=1, keepdim=True)
    return torch.where(total > 0, size / total.clamp_min(torch.finfo(size.dtype).tiny), rest)
