"""GDAS: one operation an edge by straight-through Gumbel-Softmax (Dong and Yang, CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.egs import gumbel_softmax
from datanas.samplers import register_sampler
from datanas.samplers.base import Sampler, SamplerConfig, Tau
from datanas.samplers.derivation import Rule


@register_sampler("gdas")
class GDAS(Sampler):
    """Draws one operation an edge, hard forward and soft backward (Eq. 3 to 5 there), and keeps two inputs a node.

    The paper gives a gradient to the operation alone that was drawn; `search.gradient.kind: sampled` does the same,
    while the default asks all. Its reduction cell is fixed; here it is searched too.
    """

    class Config(SamplerConfig):
        name: Literal["gdas"] = "gdas"
        tau: Tau = Tau(start=10.0, end=0.1)
        init_std: float = Field(1e-3, ge=0, description="deviation of alpha at the start")

    default_rule: ClassVar[Rule] = "top_edges"

    config: Config

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.init_normal(config.init_std)

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return gumbel_softmax(log_probs, self.config.tau.at(progress), generator=generator)
