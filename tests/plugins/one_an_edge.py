"""One operation an edge, by straight-through Gumbel-Softmax, with all that a method defines."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import ComponentConfig
from datanas.egs import gumbel_softmax
from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, Sampler, Vectors
from datanas.samplers.derivation import Derivation, derive_likeliest


@register_sampler("one_an_edge")
class OneAnEdge(Sampler):
    class Config(ComponentConfig):
        name: Literal["one_an_edge"] = "one_an_edge"
        tau: float = Field(1.0, gt=0)

    def __init__(self, config: Any, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.config = config
        self.vectors = {name: Vectors(group, "edge") for name, group in groups.items()}

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        gates, probs, codes = {}, {}, {}
        for name, layout in self.vectors.items():
            alpha = self.alpha[name]
            log_probs = layout.log_probs(torch.zeros_like(alpha) if uniform else alpha)
            codes[name] = gumbel_softmax(log_probs, self.config.tau, generator=generator)
            probs[name] = log_probs.exp()
            gates[name] = layout.to_edges(layout.operations(codes[name]))
        return Draw(gates, probs, codes)

    def _probs(self) -> dict[str, Tensor]:
        alphas = {name: alpha.detach().double() for name, alpha in self.alpha.items()}
        return {name: layout.log_probs(alphas[name]).exp() for name, layout in self.vectors.items()}

    def probabilities(self) -> dict[str, Tensor]:
        return {name: self.vectors[name].shares(probs) for name, probs in self._probs().items()}

    def flatness(self) -> dict[str, float]:
        return {name: self.vectors[name].flatness(probs) for name, probs in self._probs().items()}

    def derive(self, n: int = 1) -> Derivation:
        return derive_likeliest(self._probs(), self.vectors, 1, n, space=self.space, scope="edge", aggregate="sum")
