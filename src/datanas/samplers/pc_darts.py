"""PC-DARTS: DARTS on part of the channels, with normalised edges (Xu et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, Sampler, SamplerConfig
from datanas.samplers.derivation import Rule


@register_sampler("pc_darts")
class PCDARTS(Sampler):
    """Weighs the operations of an edge by softmax(alpha), and the edges into a node by softmax(beta) (Eq. 2, 3 there).

    Operations see one of `parts` equal parts of the channels, the rest passes them by. What it keeps is ranked by the
    product of both weights. The paper leaves alpha alone for the first 15 of 50 epochs: `search.alpha_start: 0.3`.
    """

    class Config(SamplerConfig):
        name: Literal["pc_darts"] = "pc_darts"
        parts: int = Field(4, ge=1, description="K: operations run on 1/K of the channels")
        init_std: float = Field(1e-3, ge=0, description="deviation of alpha and beta at the start")

    default_rule: ClassVar[Rule] = "top_edges"

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.partial_channels = config.parts
        self.init_normal(config.init_std)
        self.beta = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(len(group.edges)) * config.init_std) for name, group in groups.items()}
        )

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return log_probs.exp()

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        draw = super().draw(progress, generator, uniform=uniform)
        weights = {name: self._edge_weights(name, uniform=uniform) for name in self.groups}
        return replace(draw, gates={name: gates * weights[name] for name, gates in draw.gates.items()})

    def _edge_weights(self, name: str, *, uniform: bool = False) -> Tensor:
        """Softmax of beta over the edges into each node, shape (edges, 1)."""
        beta = torch.zeros_like(self.beta[name]) if uniform else self.beta[name]
        parts = [torch.tensor(part) for part in self.groups[name].by_target]
        weights = torch.cat([beta[part].softmax(dim=0) for part in parts])
        return weights[torch.cat(parts).argsort()].unsqueeze(1)

    def op_scores(self) -> dict[str, Tensor]:
        return {name: probs * self._edge_weights(name).detach() for name, probs in self.probabilities().items()}
