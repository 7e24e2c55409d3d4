"""The network around a recurrent body that makes it a language model: embedding, dropouts, decoder."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import _register_namedtuple

from datanas.core import seeding
from datanas.core.settings import Section
from datanas.kernels.linear_cross_entropy import linear_cross_entropy
from datanas.kernels.switch import own_kernels
from datanas.spaces.sequence import Carried, Sequences, SequenceShape
from datanas.tasks.sampled_words import DrawnWords, sampled_cross_entropy

EMBEDDING_DEVIATION = 0.1


class Dropout(Section):
    """Shares that are dropped while training, each by one mask for a whole sequence (Gal and Ghahramani, NeurIPS 2016).

    The defaults are those of DARTS (ICLR 2019, Appendix A.2.2).
    """

    words: float = Field(0.0, ge=0, lt=1, description="whole words of the vocabulary")
    embedding: float = Field(0.2, ge=0, lt=1, description="of the embedded words")
    input: float = Field(0.75, ge=0, lt=1, description="of the cell's input, after that")
    hidden: float = Field(0.25, ge=0, lt=1, description="of the hidden state and of the cell's nodes")
    output: float = Field(0.75, ge=0, lt=1, description="of what the decoder reads")


class Predictions(NamedTuple):
    """What a language model makes of a text; a tuple, so that it passes through whatever exports networks.

    Attributes:
        features: what the decoder reads, after dropout.
        outputs: the same before dropout.
        state: what the body carries on.
        weight, bias: of the decoder.
    """

    features: Float[Tensor, "time batch width"]
    outputs: Float[Tensor, "time batch width"]
    state: Float[Tensor, "batch carried"]
    weight: Float[Tensor, "words width"]
    bias: Float[Tensor, " words"]

    @property
    def logits(self) -> Float[Tensor, "time batch words"]:
        """Scores of all words at every step; large."""
        return F.linear(self.features, self.weight, self.bias)

    def cross_entropy(self, targets: Int64[Tensor, "time batch"]) -> Tensor:
        """The mean over all words, in nats, without holding all logits."""
        return linear_cross_entropy(self.features.flatten(0, 1), self.weight, self.bias, targets.flatten())

    def sampled_cross_entropy(self, targets: Int64[Tensor, "time batch"], drawn: DrawnWords) -> Tensor:
        """An estimate of it from the words that were drawn."""
        return sampled_cross_entropy(self.features.flatten(0, 1), self.weight, self.bias, targets.flatten(), drawn)


_register_namedtuple(Predictions, serialized_type_name="datanas.Predictions")  # for torch.export.save


class WordStem(nn.Module):
    """Words to vectors.

    Args:
        words: of the vocabulary.
        width: of an embedded word.
        hidden: units of the body's hidden state.
        dropout: shares to drop in training mode.
    """

    def __init__(self, words: int, width: int, hidden: int, dropout: Dropout) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        nn.init.uniform_(self.embedding.weight, -EMBEDDING_DEVIATION, EMBEDDING_DEVIATION)
        self.shape = SequenceShape(width, hidden)
        self.vocabulary = 0
        """Tells vocabularies apart; 0 is none in particular."""
        self._dropout = dropout

    def forward(self, x: Tensor | tuple[Tensor, Tensor | None]) -> Sequences:
        """(time, batch) numbers of words, with the state to go on from if there is one."""
        tokens, state = x if isinstance(x, tuple | list) else (x, None)
        embedded = self.embedding(tokens)
        if not self.training:
            return Sequences(embedded, state, None)
        rates, batch = self._dropout, tokens.shape[1]
        if rates.words > 0:
            embedded = embedded * _mask(embedded, rates.words, len(self.embedding.weight))[tokens, None]
        for rate in (rates.embedding, rates.input):
            if rate > 0:
                embedded = embedded * _mask(embedded, rate, batch, embedded.shape[2])
        mask = _mask(embedded, rates.hidden, batch, self.shape.hidden) if rates.hidden > 0 else None
        return Sequences(embedded, state, mask)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.vocabulary)

    def set_extra_state(self, state: Tensor) -> None:
        """Make sure that the weights to be loaded are those of this vocabulary."""
        theirs = int(state)
        if self.vocabulary and theirs and theirs != self.vocabulary:
            raise RuntimeError("it was trained with another vocabulary than that of this text")
        self.vocabulary = self.vocabulary or theirs


class WordHead(nn.Module):
    """Hidden states to the scores of words; the decoder may be the embedding of a stem (Inan et al., ICLR 2017)."""

    def __init__(self, words: int, width: int, dropout: float, stem: WordStem | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(words))
        self._tied = (stem,) if stem is not None else ()  # in a tuple, so that it is not a part of this module too
        if stem is None:
            weight = torch.empty(words, width).uniform_(-EMBEDDING_DEVIATION, EMBEDDING_DEVIATION)
            self.weight = nn.Parameter(weight)
        self._dropout = dropout

    def forward(self, carried: Carried) -> Predictions:
        outputs, state = carried
        features = outputs
        if self.training and self._dropout > 0:
            features = outputs * _mask(outputs, self._dropout, outputs.shape[1], outputs.shape[2])
        weight = self._tied[0].embedding.weight if self._tied else self.weight
        predictions = Predictions(features, outputs, state, weight, self.bias)
        if not self.training and not own_kernels():
            _ = predictions.logits  # whoever counts multiply-adds counts these too
        return predictions


def log_frequencies(text: Int64[Tensor, " n"], words: int) -> Float[Tensor, " words"]:
    """The logarithm of each word's share of a text, each word counted once more than it stands there."""
    counts = torch.bincount(text, minlength=words) + 1.0
    return (counts / counts.sum()).log()


def _mask(like: Tensor, rate: float, *shape: int) -> Tensor:
    return like.new_empty(shape).bernoulli_(1 - rate, generator=seeding.current(like.device)).div_(1 - rate)
