"""Networks that foretell words: how well they foretell a text, and how they go on with one."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from datanas.core.errors import CheckpointError, ConfigError, DataError
from datanas.core.paths import is_folder, read_bytes, shown
from datanas.data.decode.image_list import is_hidden
from datanas.data.sets.text import SUFFIXES
from datanas.data.types.corpus import EOS, UNKNOWN, Source, encode_known
from datanas.deploy.predictions import TextPrediction
from datanas.deploy.predictor import BATCH_SIZE, Predictor
from datanas.deploy.trained import Trained
from datanas.tasks.continuation import continuation
from datanas.tasks.perplexity import perplexity, whole_text_loss

_log = logging.getLogger(__name__)


class TextPredictor(Predictor[tuple[TextPrediction, ...]]):
    """Perplexities of texts, and continuations."""

    def __init__(self, trained: Trained, device: torch.device, white_level: float | None = None) -> None:
        super().__init__(trained, device, white_level)
        self.vocabulary = trained.use.vocabulary or ()
        if len(self.vocabulary) != trained.num_classes or EOS not in self.vocabulary:
            raise CheckpointError(
                f"{trained.path}: the vocabulary has {len(self.vocabulary)} words, the network {trained.num_classes}"
            )
        self._eos = self.vocabulary.index(EOS)
        self._unknown = self.vocabulary.index(UNKNOWN) if UNKNOWN in self.vocabulary else None

    def predict(
        self, inputs: Any, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False
    ) -> tuple[TextPrediction, ...]:
        """How well each text is foretold, read as one sequence, whatever the size of batches.

        Args:
            inputs: files, folders of files, or texts themselves: whatever has a blank and is no file. Words stand
                between blanks, a sentence a line.
        """
        return tuple(self._measured(source) for source in _sources(inputs))

    @torch.inference_mode()
    def _measured(self, source: Source) -> TextPrediction:
        ids, unknown = encode_known(source, self.vocabulary)
        loss = whole_text_loss(self.network, ids.to(self.device), self._eos).mean
        return TextPrediction(source.where, perplexity(loss)["perplexity"], len(ids), unknown)

    @torch.inference_mode()
    def continue_text(self, words: str, count: int = 20, *, seed: int | None = None, temperature: float = 1.0) -> str:
        """The words that follow, ends of sentences as line breaks; never `<unk>`.

        Args:
            words: what stands before, from the beginning of a sentence; may be empty.
            count: how many words follow.
            seed: draw each word by its probability, keyed by this; None for the likeliest.
            temperature: what scores are divided by before a word is drawn.

        Raises:
            ConfigError: fewer than one word, or a temperature that is not above 0.
            DataError: the network does not know the words.
        """
        if count < 1:
            raise ConfigError(f"words must be at least 1, got {count}")
        if not temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {temperature}")
        before = [self._eos]
        if words.strip():
            ids, unknown = encode_known(Source("the words to continue", words), self.vocabulary)
            before += ids.tolist()[:-1]
            if unknown:
                _log.warning("the network does not know %d of the words to continue", unknown)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        continued = continuation(
            self.network,
            before,
            count,
            self.device,
            never=self._unknown,
            generator=generator,
            temperature=temperature,
        )
        text = " ".join("\n" if each == self._eos else self.vocabulary[each] for each in continued)
        return text.replace(" \n ", "\n").replace(" \n", "\n").replace("\n ", "\n")


def _sources(inputs: Any) -> list[Source]:
    given = [inputs] if isinstance(inputs, str | Path) else inputs
    if not isinstance(given, Iterable):
        raise DataError(f"{type(inputs).__name__} is no text; give files of words, folders of them, or texts")
    sources: list[Source] = []
    for each in given:
        if not isinstance(each, str | Path):
            raise DataError(f"{type(each).__name__} is no text; give files of words, folders of them, or texts")
        if isinstance(each, str) and len(each.split()) > 1 and not _is_path(each):
            sources.append(Source(f"text {len(sources)}", each))
        else:
            sources += [Source(str(file), read_bytes(file, DataError)) for file in _files(Path(each))]
    if not sources:
        raise DataError("no texts were given; give files of words, folders of them, or texts")
    return sources


def _is_path(text: str) -> bool:
    with suppress(OSError, ValueError):  # what no path can be is a text
        return Path(text).exists()
    return False


def _files(path: Path) -> list[Path]:
    if not is_folder(path, DataError):
        return [path]
    files = [each for each in sorted(path.rglob("*")) if each.suffix.lower() in SUFFIXES and each.is_file()]
    files = [each for each in files if not any(map(is_hidden, each.relative_to(path).parts))]
    if not files:
        raise DataError(f"{shown(path)}: holds no texts ({', '.join(SUFFIXES)})")
    return files
