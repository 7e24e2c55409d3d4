"""DARTS: the softmax mixture of all operations (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers import register_sampler
from datanas.samplers.base import Sampler, SamplerConfig
from datanas.samplers.derivation import Rule


@register_sampler("darts")
class DARTS(Sampler):
    """Weighs all operations of an edge by softmax(alpha) (Eq. 2 there) and keeps two inputs a node.

    Nothing is sampled, so every operation runs in every step. The second-order gradient (Eq. 7 there) is the engine's:
    `search.hypergradient`.
    """

    class Config(SamplerConfig):
        name: Literal["darts"] = "darts"
        init_std: float = Field(1e-3, ge=0, description="deviation of alpha at the start")

    default_rule: ClassVar[Rule] = "top_edges"

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.init_normal(config.init_std)

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return log_probs.exp()
