"""GDAS: one operation an edge by straight-through Gumbel-Softmax (Dong and Yang, CVPR 2019)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from datanas.egs import gumbel_softmax
from datanas.samplers import register_sampler
from datanas.samplers.base import NormalStart, Sampler, Tau
from datanas.samplers.derivation import Rule


@register_sampler("gdas")
class GDAS(Sampler):
    """Draws one operation an edge, hard forward and soft backward (Eq. 3 to 5 there), and keeps two inputs a node.

    The paper gives a gradient to the operation alone that was drawn; `search.gradient.kind: sampled` does the same,
    while the default asks all. Its reduction cell is fixed; here it is searched too.
    """

    class Config(NormalStart):
        name: Literal["gdas"] = "gdas"
        tau: Tau = Tau(start=10.0, end=0.1)

    default_rule: ClassVar[Rule] = "top_edges"

    config: Config

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return gumbel_softmax(log_probs, self.config.tau.at(progress), generator=generator)
