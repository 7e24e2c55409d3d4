"""Search methods whose probability vectors are a softmax of alpha: what most of them share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import ComponentConfig, Section
from datanas.samplers.derivation import Derivation as Derivation
from datanas.samplers.interface import BaseSampler as BaseSampler
from datanas.samplers.interface import Draw as Draw
from datanas.samplers.interface import SamplerConfig as SamplerConfig
from datanas.samplers.interface import Update as Update
from datanas.samplers.vectors import Merge as Merge
from datanas.samplers.vectors import Scope as Scope
from datanas.samplers.vectors import Vectors as Vectors


class Tau(Section):
    """A temperature, linear over the search."""

    start: float = Field(1.0, gt=0)
    end: float = Field(1.0, gt=0)

    def at(self, progress: float) -> float:
        return self.start + (self.end - self.start) * min(max(progress, 0.0), 1.0)


class NormalStart(SamplerConfig):
    """The settings of methods whose alpha starts at random."""

    init_std: float = Field(1e-3, ge=0, description="deviation of alpha at the start")


class Sampler(BaseSampler):
    """A method that owns alpha and draws from the softmax of it, vector by vector.

    It defines `sample`; what is particular to it beyond that it overrides.

    Attributes:
        alpha: by choice group, shape (edges, ops).
    """

    def __init__(
        self,
        config: ComponentConfig,
        groups: Mapping[str, ChoiceGroup],
        space: str,
        *,
        scope: Scope = "edge",
        merge: Merge = "mean",
    ) -> None:
        super().__init__(config, groups, space, scope=scope, merge=merge)
        self.alpha = nn.ParameterDict({name: nn.Parameter(torch.zeros(group.shape)) for name, group in groups.items()})
        if isinstance(config, NormalStart):
            self.init_normal(config.init_std)

    def init_normal(self, deviation: float, around: float = 0.0) -> None:
        """Start every alpha at random, normally distributed."""
        with torch.no_grad():
            for alpha in self.alpha.values():
                alpha.copy_(around + torch.randn(alpha.shape) * deviation)

    def logits(self, name: str) -> Float[Tensor, "edges ops"]:
        """What the softmax of a group's vectors is taken of."""
        alpha: Tensor = self.alpha[name]
        return alpha

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        gates, probs, codes = {}, {}, {}
        for name, layout in self.vectors.items():
            logits = self.logits(name)
            log_probs = layout.log_probs(torch.zeros_like(logits) if uniform else logits)
            codes[name] = self.sample_group(name, log_probs, progress, generator)
            gates[name] = self._gates(codes[name], layout)
            probs[name] = log_probs.exp()
        return Draw(gates, probs, codes)

    def sample_group(
        self, name: str, log_probs: Float[Tensor, "vectors entries"], progress: float, generator: torch.Generator
    ) -> Float[Tensor, "vectors entries"]:
        """As `sample`, for a method that draws from some groups otherwise than from others."""
        return self.sample(log_probs, progress, generator)

    def sample(
        self, log_probs: Float[Tensor, "vectors entries"], progress: float, generator: torch.Generator
    ) -> Float[Tensor, "vectors entries"]:
        """The code drawn from log-probabilities, -inf at padding; what `draw` is made of."""
        raise NotImplementedError(f"{type(self).__name__} defines neither sample nor draw")

    def _gates(self, code: Tensor, layout: Vectors) -> Tensor:
        """The factors that a code gives the operations, and with partial channels also `none`, whose bypass is seen."""
        seen = code if self.partial_channels > 1 else layout.operations(code)
        factors = seen if self.normalise == "sum" else seen / seen.sum(dim=1, keepdim=True).clamp_min(1.0)
        return layout.shares(factors) if self.partial_channels > 1 else layout.to_edges(factors)

    def vector_probs(self, name: str) -> Float[Tensor, "vectors entries"]:
        """The probability vectors of a group as they stand, in double and without gradient."""
        with torch.no_grad():
            return self.vectors[name].log_probs(self.logits(name).double()).exp()
