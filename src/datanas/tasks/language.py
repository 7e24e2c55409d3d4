"""Word-level language modelling (Sections 5.7 and 5.8): the recipe of AWD-LSTM around a recurrent body, perplexity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float64, Int64
from pydantic import Field
from torch import Tensor, nn

from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Exhibit
from datanas.core.settings import ComponentConfig
from datanas.data.batches import parse_ratio
from datanas.data.token_batches import TokenBatch, TokenStream
from datanas.data.types.corpus import TextData
from datanas.tasks import register_task, text_settings
from datanas.tasks.base import FullEvaluation, Model, Part, Task
from datanas.tasks.kind import Answers
from datanas.tasks.metric import Metric
from datanas.tasks.perplexity import LARGEST_EXPONENT, STRETCH, perplexity, text_loss, whole_text_loss
from datanas.tasks.sampled_words import word_sampler
from datanas.tasks.text_exhibits import continued_sentences
from datanas.tasks.word_model import Dropout, Predictions, WordHead, WordStem, log_frequencies

COLUMNS = 64
"""Of a text that is only followed, not measured."""
LOOKS = 8
"""Batches, at least, in which a text is followed: where each has a child of its own, one child says little."""


@register_task("language")
class Language(Task[TokenBatch]):
    """Predict the next word of a text."""

    class Config(ComponentConfig):
        name: Literal["language"] = "language"
        embedding: int | None = Field(
            None, ge=1, description="width of an embedded word; null: that of the hidden state"
        )
        tied: bool = Field(True, description="decode by the embedding's weights")
        bias: Literal["zero", "frequencies"] = Field(
            "zero", description="what the decoder's bias starts as; frequencies: the logarithms of the words' shares"
        )
        sampled_words: int | None = Field(
            None,
            ge=1,
            description="words, about, drawn anew at every step, that stand for all in the loss while learning; null: "
            "all. Figures are always of all words",
        )
        sequence: int = Field(35, ge=2, description="steps of truncated back-propagation")
        varied: bool = Field(True, description="let their number vary while training; in a search it does not")
        dropout: Dropout = Dropout()
        activation: float = Field(0.0, ge=0, description="weight of the mean square of what the decoder reads")
        temporal_activation: float = Field(
            1e-3, ge=0, description="weight of the mean square by which the hidden state changes from step to step"
        )

    metric: ClassVar[Metric] = Metric("perplexity", is_share=False, higher_is_better=False)
    keeps_answers: ClassVar[bool] = True
    shared_answers: ClassVar[Sequence[str]] = ("words",)
    answer_units: ClassVar[str] = "stretches of text"
    example_call: ClassVar[str] = 'predict("text.txt")'
    unit: ClassVar[str] = "word"
    cells: ClassVar[str] = "recurrent cells, such as darts_v2_rnn"
    has_validation = True
    default_classes: ClassVar[int] = 10_000
    default_size: ClassVar[int | None] = None
    defaults: ClassVar[Mapping[str, Any]] = {
        "data": {"name": "manual"},
        "space": {"name": "recurrent_cell"},
        "sampler": {"name": "egs", "samples": 3},
        "search": {
            "epochs": 50,
            "batch_size": 256,
            "weights": {"lr": 20.0, "schedule": "constant", "momentum": 0.0, "weight_decay": 5e-7, "clip": 0.25},
            "alpha": {"lr": 3e-3},
        },
        "train": {
            "epochs": 1600,
            "batch_size": 64,
            "weights": {"lr": 20.0, "schedule": "constant", "momentum": 0.0, "weight_decay": 8e-7, "clip": 0.25},
            "average_after": 5,
        },
    }
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, TextData):
            raise ConfigError("data.name: task language takes texts")
        assert isinstance(config, self.Config)
        self.config = config
        self.data = data
        self.device = device
        self._seed = seed
        self._texts: dict[str, Tensor] = {"validation": data.valid.to(device), "test": data.test.to(device)}
        self._train = data.train.to(device)
        self._sampler = word_sampler(data.train, self.num_classes, config.sampled_words, seed, device)
        self._streams: dict[Part, TokenStream] = {}
        self._carried: dict[str, dict[int, Tensor]] = {}

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> WordStem:
        """`in_channels` are the words of the vocabulary, `channels` the units of the body's hidden state."""
        assert isinstance(config, cls.Config)
        return WordStem(in_channels, config.embedding or channels, channels, config.dropout)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> WordHead:
        assert isinstance(config, cls.Config)
        return WordHead(num_classes, widths[-1], config.dropout.output)

    @classmethod
    def tied_head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int, stem: nn.Module) -> WordHead:
        assert isinstance(config, cls.Config)
        if not config.tied:
            return cls.head(config, widths, num_classes)
        assert isinstance(stem, WordStem)
        if stem.embedding.weight.shape != (num_classes, widths[-1]):
            raise ConfigError(
                f"task.tied: an embedding of {stem.embedding.num_embeddings} words and width {stem.shape.width} "
                f"cannot decode {widths[-1]} units into {num_classes} words; leave task.embedding out, or set tied to "
                "false"
            )
        return WordHead(num_classes, widths[-1], config.dropout.output, stem)

    @classmethod
    def inputs(cls, num_classes: int) -> int:
        return num_classes

    @classmethod
    def example_input(
        cls, config: ComponentConfig, in_channels: int, size: int, batch: int, device: torch.device
    ) -> Tensor:
        """One step of some columns of text."""
        return torch.zeros(1, batch, dtype=torch.int64, device=device)

    @classmethod
    def answer(cls, output: Predictions) -> Tensor:
        """The scores of all words."""
        return output.logits

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (1,)

    def example(self) -> Tensor:
        return torch.zeros(1, 1, dtype=torch.int64, device=self.device)

    def make_stem(self, channels: int) -> WordStem:
        stem = self.stem(self.config, self.num_classes, channels)
        stem.vocabulary = self.data.digest
        return stem

    def make_head(self, widths: tuple[int, ...], stem: nn.Module) -> WordHead:
        head = super().make_head(widths, stem)
        assert isinstance(head, WordHead)
        if self.config.bias == "frequencies":
            with torch.no_grad():
                head.bias.copy_(log_frequencies(self.data.train, self.num_classes))
        return head

    @property
    def num_classes(self) -> int:
        return len(self.data.vocabulary)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.data.vocabulary

    def describe(self) -> dict[str, Any]:
        return {
            "words": self.num_classes,
            "train": len(self.data.train),
            "valid": len(self.data.valid),
            "test": len(self.data.test),
            "unknown": dict(self.data.unknown),
        }

    def suited_settings(self) -> Mapping[str, Any]:
        return text_settings.suited(len(self.data.train), self.num_classes)

    def lighter_settings(self) -> Sequence[Mapping[str, Any]]:
        return text_settings.lighter(len(self.data.train))

    def chosen(self) -> Mapping[str, Tensor]:
        """The words of each part that is learned from."""
        return {part: self._texts[part] for part in self._streams}

    def contents(self) -> Iterator[bytes]:
        """The vocabulary and the texts."""
        yield str(self.data.digest).encode()
        for text in (self.data.train, self.data.valid, self.data.test):
            yield text.cpu().numpy().tobytes()

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        """The first words of the training text are for the weights, the rest for alpha (Section 5.7)."""
        text = self._train[:examples]
        first, second = (Fraction(str(number)) for number in parse_ratio(ratio))
        cut = round(len(text) * first / (first + second))
        for part, ids in (("weights", text[:cut]), ("alpha", text[cut:])):
            self._add(cast(Part, part), ids, batch_size, varied=False)

    def limit(self, examples: int) -> None:
        """The first words of the training text."""
        self._train = self._train[:examples]

    def split_train(self, validation: float, batch_size: int) -> None:
        self._add("train", self._train, batch_size, varied=self.config.varied)

    def _add(self, part: Part, ids: Tensor, batch_size: int, *, varied: bool) -> None:
        if len(ids) < TokenStream.fewest(batch_size):
            raise DataError(
                f"{self.data.where}: {len(ids)} words for the part {part!r} are too few for a batch of {batch_size} "
                f"columns, which needs {TokenStream.fewest(batch_size)}; take a smaller batch_size or a longer text"
            )
        self._texts[part] = ids
        self._streams[part] = TokenStream(
            ids, batch_size, self.config.sequence, varied=varied, seed=self._seed, part=part
        )
        self.processes.share(batch_size)  # told now where it cannot be
        self._carried.pop(part, None)

    def steps_per_epoch(self, part: Part) -> int:
        return self._streams[part].steps_per_epoch

    def batch(self, part: Part, step: int) -> TokenBatch:
        stream = self._streams[part]
        return stream.batch(step, self.processes.share(stream.batch_size))

    def lr_scale(self, batch: TokenBatch) -> float:
        """Shorter batches make shorter steps (Merity, Keskar and Socher, ICLR 2018, Section 5)."""
        return len(batch.tokens) / self.config.sequence

    def loss(self, model: Model, batch: TokenBatch) -> Tensor:
        """Cross-entropy, with the regularisers of activations where weights are trained.

        The model goes on from the state in which it left the batch before, or from none at the beginning of the text.
        """
        carried = {} if batch.begins else self._carried.get(batch.part, {})
        state = carried.get(batch.step)
        predictions: Predictions = model((batch.tokens, state))
        after = {batch.step + 1: predictions.state.detach()}
        # That before stays too: a batch may be asked for again, with other weights.
        self._carried[batch.part] = after if state is None else {batch.step: state, **after}
        loss = self._cross_entropy(predictions, batch)
        if batch.part == "alpha":
            return loss
        if self.config.activation > 0:
            loss = loss + self.config.activation * predictions.features.square().mean()
        if self.config.temporal_activation > 0 and len(predictions.outputs) > 1:
            loss = loss + self.config.temporal_activation * predictions.outputs.diff(dim=0).square().mean()
        return loss

    def _cross_entropy(self, predictions: Predictions, batch: TokenBatch) -> Tensor:
        if self._sampler is None:
            return predictions.cross_entropy(batch.targets)
        return predictions.sampled_cross_entropy(batch.targets, self._sampler.draw(batch.part, batch.step))

    def state_dict(self) -> dict[str, Any]:
        """The states that are carried into the next batch of each part, of all processes' columns."""
        carried = {}
        for part in sorted(self._carried):
            step = max(self._carried[part])
            carried[part] = {"step": step, "state": self.processes.gather(self._carried[part][step]).flatten(0, 1)}
        return {"carried": carried}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._carried = {}
        for part, entry in state["carried"].items():
            whole: Tensor = entry["state"].to(self.device)
            self._carried[part] = {int(entry["step"]): whole[self.processes.share(len(whole))].clone()}

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`perplexity`, and `loss` in nats a word; both are infinite of a network whose hidden state has run away.

        Validation and test text are read whole, as one sequence that begins after the end of a sentence, so that every
        word is predicted from all that stands before it. The parts of a search, and texts of which a `limit` is given,
        are read in columns.
        """
        text = self._texts[part]
        if limit is None and part in ("validation", "test"):
            return perplexity(whole_text_loss(model, text, self.data.eos).mean)
        return self._follow(model, text[:limit])

    @torch.inference_mode()
    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """With the answers `nats` and `words`, of each stretch of a text that is read whole."""
        if part not in ("validation", "test"):
            return super().evaluate_fully(model, part)
        read = whole_text_loss(model, self._texts[part], self.data.eos)
        answers = {"nats": read.nats, "words": read.words}
        return FullEvaluation(perplexity(read.mean), lambda: self.exhibits(model, part), answers)

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        mean = counts @ answers["nats"].to(counts) / (counts @ answers["words"].to(counts))
        return mean.where(mean < LARGEST_EXPONENT, torch.inf).exp()

    @torch.inference_mode()
    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same from columns, which is faster and, for the words at their heads, a little worse."""
        return self._follow(model, self._texts[part])

    @torch.inference_mode()
    def exhibits(self, model: Model, part: Part) -> Sequence[Exhibit]:
        """How the network goes on with sentences of the part, each word drawn by its probability."""
        return continued_sentences(model, self._texts[part].cpu(), self.data, self.device, self._seed)

    def _follow(self, model: Model, text: Int64[Tensor, " n"]) -> dict[str, float]:
        count = min(COLUMNS, max(2, len(text) // self.config.sequence))
        rows = max(1, len(text) // count)
        columns = text[: rows * count].view(-1, rows)
        return perplexity(text_loss(model, columns, self.data.eos, min(STRETCH, -(-rows // LOOKS))).mean)
