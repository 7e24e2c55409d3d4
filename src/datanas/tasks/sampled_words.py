"""Cross-entropy over a large vocabulary from some of its words, drawn anew at every step.

Of a word t with score s_t among words with scores s_w the exact loss is log Z - s_t with Z = sum over w of exp(s_w).
Every word w is drawn by itself with probability pi_w, its frequency times a constant and at most 1, and

    Z_t = exp(s_t) + sum over drawn w other than t of exp(s_w) / pi_w

is Z on average (Horvitz and Thompson, 1952), so its gradient is that of Z on average, too. The logarithm of it, as in
Bengio and Senecal (IEEE Transactions on Neural Networks, 2008) and Jean et al. (ACL 2015), is a little less than log Z
on average; the more words are drawn, the less is missing. Frequent words are always among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from datanas.core import seeding


@dataclass(frozen=True)
class DrawnWords:
    """Words that stand for all.

    Attributes:
        ids: (k,), ascending.
        log_inclusion: (k,), the logarithm of the probability with which each is drawn.
    """

    ids: Int64[Tensor, " k"]
    log_inclusion: Float[Tensor, " k"]


class WordSampler:
    """Draws each word by itself, with a probability that grows with its frequency.

    Args:
        text: (n,), words of which each is counted once more than it stands there.
        words: of the vocabulary.
        size: words that are drawn on average; fewer than there are.
        seed: of the draws.
        device: where they are wanted.
    """

    def __init__(self, text: Int64[Tensor, " n"], words: int, size: int, seed: int, device: torch.device) -> None:
        counts = torch.bincount(text.cpu(), minlength=words).double() + 1.0
        self.inclusion = inclusion_by(counts, size)
        self._seed, self._device = seed, device

    def draw(self, part: str, step: int) -> DrawnWords:
        """The words of a step, the same whenever it is asked for."""
        generator = seeding.generator(self._seed, f"words/{part}", step)
        chances = torch.rand(len(self.inclusion), generator=generator)
        ids = (chances < self.inclusion).nonzero()[:, 0]
        return DrawnWords(ids.to(self._device), self.inclusion[ids].log().float().to(self._device))


def word_sampler(
    text: Int64[Tensor, " n"], words: int, size: int | None, seed: int, device: torch.device
) -> WordSampler | None:
    """The sampler of a loss that compares with `size` words; None where that is with all."""
    return None if size is None or size >= words else WordSampler(text, words, size, seed, device)


def inclusion_by(counts: Float64[Tensor, " words"], size: int) -> Float64[Tensor, " words"]:
    """Probabilities min(1, c n) of which the sum is `size`.

    Args:
        counts: n, each above 0.

    Raises:
        ValueError: `size` is below 1, or there are no more words than that.
    """
    if not 0 < size < len(counts):
        raise ValueError(f"size: of {len(counts)} words at least 1 and fewer than all can be drawn, got {size}")
    ordered = counts.sort(descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)  # of each word and of those that are rarer
    factors = (size - torch.arange(len(counts))) / rest  # were so many drawn for certain
    certain = int((factors[:size] * ordered[:size] > 1).sum())
    return (factors[min(certain, size - 1)] * counts).clamp_max(1.0)


def sampled_cross_entropy(
    features: Float[Tensor, "n width"],
    weight: Float[Tensor, "words width"],
    bias: Float[Tensor, " words"],
    targets: Int64[Tensor, " n"],
    drawn: DrawnWords,
) -> Float[Tensor, ""]:
    """The mean of log Z_t - s_t at the targets t, in nats, with scores s = features weight^T + bias.

    It holds n x k scores of the k words that were drawn.
    """
    own = (features * weight[targets]).sum(dim=1) + bias[targets]
    others = F.linear(features, weight[drawn.ids], bias[drawn.ids] - drawn.log_inclusion)
    others = others.to(weight.dtype).masked_fill(targets[:, None] == drawn.ids, -math.inf)
    total = torch.cat((own.to(weight.dtype)[:, None], others), dim=1).logsumexp(dim=1)
    return (total - own).mean()
