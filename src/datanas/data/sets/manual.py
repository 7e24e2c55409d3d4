"""The embedded default text: the language reference that Python's `help` shows, from the standard library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.types.corpus import SPLITS, Source, Split, TextData, encode

_SHARES: dict[Split, int] = {"train": 8, "valid": 1, "test": 1}
_UNDERLINE = re.compile(r"^\s*([^\w\s])\1{2,}\s*$", re.MULTILINE)
_NEXT_PARAGRAPH = re.compile(r"\n\s*\n")
# A word, the end of a contraction, a number, or a run of one sign.
_TOKEN = re.compile(r"[^\W\d]\w*|'(?:s|t|re|ve|ll|d|m)\b|(?P<number>\d(?:[\w.]*\w)?)|([^\w\s])\2*")


@register_dataset("manual")
class Manual(Dataset[TextData]):
    """Lower-case words and punctuation, a paragraph a sentence, numbers as `N`, rare words as `<unk>`.

    A part of the topics is held out for "valid" and a part for "test". Topics quote each other, so a paragraph that
    several share is kept once, in the first of them by name: no part holds a paragraph of another. The text is that
    of the running version of Python; `digest` tells two of them apart.
    """

    class Config(ComponentConfig):
        name: Literal["manual"] = "manual"
        min_count: int = Field(default=2, ge=1, description="words rarer than this in the training text become <unk>")
        max_vocabulary: int | None = Field(
            default=None, ge=3, description="words at most, <eos> and <unk> among them; rarer ones become <unk>"
        )

    config: Config

    def load(self) -> TextData:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise DataError(
                "manual: this Python has no pydoc_data.topics, which some distributions leave out of the standard "
                "library; install it, or give a text with --data.name text --data.root PATH"
            ) from None
        parts = divide(topics)
        return encode(
            {split: Source(f"manual {split}", "\n".join(parts[split]) + "\n") for split in SPLITS},
            max_vocabulary=self.config.max_vocabulary,
            min_count=self.config.min_count,
        )


def divide(topics: Mapping[str, str]) -> dict[Split, list[str]]:
    """The sentences of each part, about 8:1:1 by words.

    Each topic, in the order of names, goes whole to the part that would otherwise be furthest below its share, so the
    parts are mixed over the alphabet and a long topic is for training.
    """
    parts: dict[Split, list[str]] = {split: [] for split in SPLITS}
    words = dict.fromkeys(SPLITS, 0)
    seen: set[str] = set()
    for name in sorted(topics):
        sentences = [sentence for sentence in dict.fromkeys(sentences_of(topics[name])) if sentence not in seen]
        seen.update(sentences)
        size = sum(len(sentence.split()) for sentence in sentences)
        total = sum(words.values()) + size
        split = max(SPLITS, key=lambda split: _SHARES[split] * total - sum(_SHARES.values()) * words[split])
        parts[split] += sentences
        words[split] += size
    return parts


def sentences_of(topic: str) -> list[str]:
    """The paragraphs of a topic, headings included, as words between blanks."""
    paragraphs = _NEXT_PARAGRAPH.split(_UNDERLINE.sub("", topic))
    sentences = (
        " ".join("N" if token["number"] else token[0].lower() for token in _TOKEN.finditer(paragraph))
        for paragraph in paragraphs
    )
    return [sentence for sentence in sentences if sentence]
