"""How a network of words goes on with a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from datanas.tasks.base import Model


@torch.inference_mode()
def continuation(
    model: Model,
    before: Sequence[int],
    count: int,
    device: torch.device,
    *,
    never: int | None = None,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
) -> list[int]:
    """The numbers of the words that follow.

    Args:
        before: what stands before, at least one word, such as the end of a sentence.
        count: how many follow.
        never: a word that does not.
        generator: draws each word by its probability; None for the likeliest.
        temperature: what scores are divided by before a word is drawn.
    """
    tokens, state, words = torch.tensor(list(before))[:, None], None, []
    for _ in range(count):
        output: Any = model((tokens.to(device), state))
        state = output.state
        scores = output.logits[-1, 0].float().cpu()
        if never is not None:
            scores[never] = -torch.inf
        if generator is None:
            chosen = int(scores.argmax())
        else:
            chosen = int(torch.multinomial((scores / temperature).softmax(dim=0), 1, generator=generator))
        words.append(chosen)
        tokens = torch.tensor([[chosen]])
    return words
