"""DARTS: the softmax mixture of all operations (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from datanas.samplers import register_sampler
from datanas.samplers.base import NormalStart, Sampler
from datanas.samplers.derivation import Rule


@register_sampler("darts")
class DARTS(Sampler):
    """Weighs all operations of an edge by softmax(alpha) (Eq. 2 there) and keeps two inputs a node.

    Nothing is sampled, so every operation runs in every step. The second-order gradient (Eq. 7 there) is the engine's:
    `search.hypergradient`.
    """

    class Config(NormalStart):
        name: Literal["darts"] = "darts"

    default_rule: ClassVar[Rule] = "top_edges"

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return log_probs.exp()
