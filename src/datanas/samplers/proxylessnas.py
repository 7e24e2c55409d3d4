"""ProxylessNAS: binary gates, two paths an alpha step (Cai, Zhu and Han, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, NormalStart, Sampler, Update


@dataclass(frozen=True, kw_only=True)
class Pairs(Draw):
    """A draw and, by group, the two operations of each edge that it is between, shape (edges, 2)."""

    pairs: Mapping[str, Tensor]


@register_sampler("proxylessnas")
class ProxylessNAS(Sampler):
    """Trains the weights on one sampled path an edge; an alpha step compares two (Section 3.2.1 there).

    The two are drawn without replacement by their probabilities, and one of them runs. Their alphas alone move, and
    are then shifted so that what the two have together stays as it was. ProxylessNAS searches whole networks and adds a
    latency loss; here it searches whatever the space offers.
    """

    class Config(NormalStart):
        name: Literal["proxylessnas"] = "proxylessnas"

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        chosen = log_probs.detach().exp().multinomial(1, generator=generator)
        return torch.zeros_like(log_probs).scatter_(1, chosen, 1.0)

    def draw_for_alpha(self, progress: float, generator: torch.Generator) -> Pairs:
        gates, probs, pairs, grad_mask = {}, {}, {}, {}
        for name in self.vectors:
            logits = self.logits(name)
            probs[name] = logits.softmax(dim=1)
            pair = probs[name].detach().multinomial(min(2, logits.shape[1]), generator=generator)
            between = logits.gather(1, pair).softmax(dim=1)
            runs = between.detach().multinomial(1, generator=generator)
            hard = torch.zeros_like(between).scatter_(1, runs, 1.0)
            gates[name] = torch.zeros_like(logits).scatter(1, pair, hard + (between - between.detach()))
            pairs[name] = pair
            grad_mask[name] = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, pair, True)
        codes = {name: code.detach() for name, code in gates.items()}
        return Pairs(gates, probs, codes, grad_mask=grad_mask, pairs=pairs)

    def after_alpha_step(self, update: Update) -> None:
        assert isinstance(update.draw, Pairs)
        with torch.no_grad():
            for name, pair in update.draw.pairs.items():
                alpha, before = self.alpha[name], update.before[f"alpha.{name}"]
                together = before.gather(1, pair).logsumexp(1, keepdim=True)
                moved = alpha.gather(1, pair)
                alpha.copy_(before.scatter(1, pair, moved - moved.logsumexp(1, keepdim=True) + together))
