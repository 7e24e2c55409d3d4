"""The perplexity of a text by a language model."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int64
from torch import Tensor

from datanas.kernels.hardware import widest_float
from datanas.tasks.base import Model
from datanas.tasks.word_model import Predictions

STRETCH = 256
"""Steps that are measured at a time."""
LARGEST_EXPONENT = 700.0
"""Beyond it a perplexity is shown as infinite."""


def mean_loss(model: Model, columns: Int64[Tensor, "columns rows"], eos: int, stretch: int = STRETCH) -> float:
    """The mean cross-entropy of every word, in nats, of columns that each begin after the end of a sentence.

    Args:
        eos: the end of a sentence.
        stretch: steps that are measured at a time.
    """
    before = torch.cat((columns.new_full((len(columns), 1), eos), columns[:, :-1]), dim=1)
    total = torch.zeros((), dtype=widest_float(columns.device), device=columns.device)
    state: Tensor | None = None
    for tokens, targets in zip(torch.split(before.T, stretch), torch.split(columns.T, stretch), strict=True):
        predictions: Predictions = model((tokens, state))
        total += predictions.cross_entropy(targets).to(total) * targets.numel()
        state = predictions.state
    return float(total) / columns.numel()


def perplexity(loss: float) -> dict[str, float]:
    """The figures of a loss in nats a word; what is no number counts as infinite, so that networks can be compared."""
    loss = math.inf if math.isnan(loss) else loss
    return {"perplexity": math.exp(loss) if loss < LARGEST_EXPONENT else math.inf, "loss": loss}
