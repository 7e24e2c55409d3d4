"""DSO-NAS: scaling factors under a sparse penalty, pruned where they reach zero (Zhang et al., TPAMI 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers import register_sampler
from datanas.samplers.base import Derivation, Draw, Sampler, SamplerConfig, Update


@register_sampler("dso_nas")
class DSONAS(Sampler):
    """Scales every operation by a factor of its own, and shrinks the factors towards 0 (Eq. 4 and 5 there).

    A factor that reaches 0 stays there, and its operation does not run any more; what is left at the end is kept, any
    number of operations an edge. The factors follow the accelerated proximal gradient of the paper (Eq. 8 to 10 there),
    with the rate and momentum below; `search.alpha` plays no part. They are learned on the alpha part, in the paper
    together with the weights.
    """

    class Config(SamplerConfig):
        name: Literal["dso_nas"] = "dso_nas"
        lr: float = Field(0.1, gt=0, description="eta, of the factors")
        momentum: float = Field(0.9, ge=0, lt=1)
        sparsity: float = Field(3e-3, ge=0, description="gamma, the weight of the L1 penalty")
        signed: bool = Field(True, description="factors may fall below 0, where the authors' program stops them")
        init: float | None = Field(None, gt=0, description="every factor at the start; null for 1 / operations")

    uses_optimizer: ClassVar[bool] = False
    independent: ClassVar[bool] = False
    heeds_limits: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        for name, alpha in self.alpha.items():
            with torch.no_grad():
                alpha.fill_(1 / alpha.shape[1] if config.init is None else config.init)
            self.register_buffer(f"velocity_{name}", torch.zeros_like(alpha))

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        gates: dict[str, Tensor] = {
            name: torch.full_like(alpha, 1 / alpha.shape[1]) if uniform else alpha * (alpha.detach() != 0)
            for name, alpha in self.alpha.items()
        }
        grad_mask = {name: factors.detach() != 0 for name, factors in gates.items()}
        probs = {name: _share(factors, self.groups[name]) for name, factors in gates.items()}
        return Draw(gates, probs, gates, grad_mask)

    def after_alpha_step(self, update: Update) -> None:
        """One step of the proximal gradient from where the factors were, by the gradient that the engine has left."""
        eta, mu = self.config.lr, self.config.momentum
        with torch.no_grad():
            for name, alpha in self.alpha.items():
                before, velocity = update.before[f"alpha.{name}"], getattr(self, f"velocity_{name}")
                slope = torch.zeros_like(alpha) if alpha.grad is None else alpha.grad
                moved = before - eta * slope
                shrunk = moved.sign() * (moved.abs() - eta * self.config.sparsity).clamp_min(0)
                velocity.copy_(shrunk - before + mu * velocity)
                # Momentum must not carry a factor on that the shrinking has stopped, nor bring one back.
                alpha.copy_((shrunk + mu * velocity) * ((shrunk != 0) & (before != 0)))
                if not self.config.signed:
                    alpha.clamp_(min=0)

    def vector_probs(self, name: str) -> Tensor:
        return _share(self.alpha[name].detach().double(), self.groups[name])

    def inclusion(self) -> dict[str, Tensor]:
        return {name: (alpha.detach() != 0).double() for name, alpha in self.alpha.items()}

    def derive(self, n: int = 1) -> Derivation:
        if self.derivation.rule is not None or self.single_op:
            return super().derive(n)
        architecture = self.assemble({name: (alpha.detach() != 0).float() for name, alpha in self.alpha.items()})
        return Derivation(architecture, ((architecture, 0.0),))


def _share(factors: Tensor, group: ChoiceGroup) -> Tensor:
    """Absolute factors over their sum, shape (edges, ops); where all are 0, all on `none`, or even without it."""
    size = factors.abs()
    rest = torch.full_like(size, 1 / size.shape[1])
    if group.null is not None:
        rest = torch.zeros_like(size)
        rest[:, group.null] = 1.0
    total = size.sum(dim=1, keepdim=True)
    return torch.where(total > 0, size / total.clamp_min(torch.finfo(size.dtype).tiny), rest)
