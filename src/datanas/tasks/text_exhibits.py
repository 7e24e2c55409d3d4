"""What language modelling has to show: how a network goes on with a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from datanas.core import seeding
from datanas.core.exhibits import Exhibit, Passage, Passages
from datanas.data.types.corpus import UNKNOWN, TextData
from datanas.tasks.base import Model
from datanas.tasks.continuation import continuation

PASSAGES, GIVEN, MADE = 6, 8, 20
"""Texts that are shown, words of each that are given, and words that follow."""
_TEMPERATURE = 0.8


def continued_sentences(
    model: Model, text: Int64[Tensor, " n"], data: TextData, device: torch.device, seed: int
) -> Sequence[Exhibit]:
    """Sentences from all over a text, each gone on with; nothing where the text ends no sentence.

    Args:
        model: of the words of the data.
        text: on the CPU.
        data: with the vocabulary, and the word that ends a sentence.
        device: of the model.
        seed: of what is drawn, together with the place of the sentence.
    """
    words = data.vocabulary
    beginnings = (text[:-1] == data.eos).nonzero()[:, 0] + 1
    last = len(beginnings) - 1
    chosen = {round(i * last / (PASSAGES - 1)) for i in range(PASSAGES)} if len(beginnings) else set()
    unknown = words.index(UNKNOWN) if UNKNOWN in words else None
    passages = []
    for start in (int(beginnings[index]) for index in sorted(chosen)):
        given = text[start : start + GIVEN].tolist()
        generator = seeding.generator(seed, "exhibits", start)
        made = continuation(
            model, [data.eos, *given], MADE, device, never=unknown, generator=generator, temperature=_TEMPERATURE
        )
        passages.append(Passage(*(" ".join(words[each] for each in part) for part in (given, made))))
    drawn = f"each word drawn at temperature {_TEMPERATURE}"
    note = f"Beginnings of sentences, and in colour how the network goes on, {drawn}."
    return [Passages("Texts that it goes on with", passages, note)] if passages else []
