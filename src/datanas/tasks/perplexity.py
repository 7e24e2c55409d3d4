"""The perplexity of a text by a language model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from datanas.tasks.base import Model
from datanas.tasks.word_model import Predictions

STRETCH = 256
"""Steps that are measured at a time."""
STRETCHES = 50
"""Of a text that is read whole, where they are not shorter for it than `SHORTEST`."""
SHORTEST = 32
"""Words of a stretch. Those of shorter ones hang together too much to be taken as independent."""
LARGEST_EXPONENT = 700.0
"""Beyond it a perplexity is shown as infinite."""


@dataclass(frozen=True)
class TextLoss:
    """The cross-entropy of a text, stretch by stretch.

    Attributes:
        nats: sums over the words of each stretch.
        words: of each.
    """

    nats: Float64[Tensor, " stretches"]
    words: Int64[Tensor, " stretches"]

    @property
    def mean(self) -> float:
        """In nats a word."""
        return math.fsum(self.nats.tolist()) / int(self.words.sum())


def text_loss(model: Model, columns: Int64[Tensor, "columns rows"], eos: int, stretch: int = STRETCH) -> TextLoss:
    """The cross-entropy of every word, in nats, of columns that each begin after the end of a sentence; on the CPU.

    Args:
        eos: the end of a sentence.
        stretch: steps that are measured at a time.
    """
    before = torch.cat((columns.new_full((len(columns), 1), eos), columns[:, :-1]), dim=1)
    losses, words = [], []
    state: Tensor | None = None
    for tokens, targets in zip(torch.split(before.T, stretch), torch.split(columns.T, stretch), strict=True):
        predictions: Predictions = model((tokens, state))
        losses.append(predictions.cross_entropy(targets))
        words.append(targets.numel())
        state = predictions.state
    counts = torch.tensor(words)
    return TextLoss(torch.stack(losses).cpu().double() * counts, counts)


def whole_text_loss(model: Model, text: Int64[Tensor, " n"], eos: int) -> TextLoss:
    """That of a text as one sequence; of a short one the stretches are shorter, so that there are more of them."""
    return text_loss(model, text[None], eos, max(SHORTEST, min(STRETCH, len(text) // STRETCHES)))


def perplexity(loss: float) -> dict[str, float]:
    """The figures of a loss in nats a word; what is no number counts as infinite, so that networks can be compared."""
    loss = math.inf if math.isnan(loss) else loss
    return {"perplexity": math.exp(loss) if loss < LARGEST_EXPONENT else math.inf, "loss": loss}
