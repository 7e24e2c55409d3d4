"""Texts as word ids: what a language task reads, and the one way from three texts to it."""

from __future__ import annotations

import codecs
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from datanas.core.errors import DataError

EOS = "<eos>"
UNKNOWN = "<unk>"

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

_LONGEST_LINE = 1_000_000
_LONGEST_WITHOUT_BREAK = 100_000


@dataclass(frozen=True, eq=False)
class TextData:
    """Three texts as ids of words, each line closed by the end of a sentence.

    Attributes:
        train, valid, test: (n,), int64, in 0..len(vocabulary)-1.
        vocabulary: the words by id, those of the training text in the order in which they first appear.
        unknown: by part, how many words became `<unk>` here: those that the training text does not hold, in "valid"
            and "test"; where the vocabulary was limited, also those that were left out of it, then in "train" too.
        where: the data set and the file of the training text, to begin messages with.
    """

    train: Int64[Tensor, " n"]
    valid: Int64[Tensor, " n"]
    test: Int64[Tensor, " n"]
    vocabulary: tuple[str, ...]
    unknown: Mapping[str, int]
    where: str = "text"

    @property
    def eos(self) -> int:
        """The id of the end of a sentence."""
        return self.vocabulary.index(EOS)

    @cached_property
    def digest(self) -> int:
        """A 63-bit number of the words and their order, to tell vocabularies of one size apart."""
        # No word holds a blank, so joined words have one reading.
        joined = " ".join(self.vocabulary).encode()
        return int.from_bytes(blake2b(joined, digest_size=8).digest(), "big") >> 1


class Source(NamedTuple):
    """A text, and the data set and file that it comes from, with which messages begin."""

    where: str
    content: str | bytes


def encode(sources: Mapping[Split, Source], *, max_vocabulary: int | None = None, min_count: int = 1) -> TextData:
    """Turn three texts into ids.

    Words stand between blanks, and `<eos>` closes each line; a blank line is a lone `<eos>`. What follows the last line
    break counts only if it has words. The vocabulary is that of the training text; any other word becomes `<unk>`,
    which is added at the end if it is needed and the training text has none.

    Args:
        max_vocabulary: keep the most frequent words of the training text, so many that the vocabulary is no larger than
            this with `<eos>` and `<unk>` in it; of equally frequent words those that appear first. At least 3.
        min_count: keep the words that the training text holds at least so often.

    Raises:
        DataError: a text that is empty, binary, not UTF-8, not in lines, or that writes `<eos>` itself.
    """
    ids_by_word: defaultdict[str, int] = defaultdict()
    ids_by_word.default_factory = ids_by_word.__len__
    train = _ids(sources["train"], ids_by_word)
    known = len(ids_by_word)
    valid = _ids(sources["valid"], ids_by_word)
    test = _ids(sources["test"], ids_by_word)

    words = list(ids_by_word)
    included = np.zeros(len(words), np.bool_)
    included[:known] = _keep(words, np.bincount(train, minlength=known), len(words) > known, max_vocabulary, min_count)
    vocabulary = [word for word, stays in zip(words, included, strict=True) if stays]
    if UNKNOWN not in vocabulary and not included.all():
        vocabulary.append(UNKNOWN)
    renamed = np.full(len(words), vocabulary.index(UNKNOWN) if UNKNOWN in vocabulary else -1, np.int64)
    renamed[included] = np.arange(included.sum())

    parts = dict(zip(SPLITS, (train, valid, test), strict=True))
    limited = max_vocabulary is not None or min_count > 1
    return TextData(
        **{split: torch.from_numpy(renamed[ids]) for split, ids in parts.items()},
        vocabulary=tuple(vocabulary),
        unknown={split: int((~included[ids]).sum()) for split, ids in parts.items() if split != "train" or limited},
        where=sources["train"].where,
    )


def encode_known(source: Source, vocabulary: Sequence[str]) -> tuple[Int64[Tensor, " n"], int]:
    """The ids that a text's words have in a vocabulary, and how many words became `<unk>`; lines as of `encode`.

    Raises:
        DataError: as `encode`; or the text holds other words and the vocabulary no `<unk>`.
    """
    ids_by_word: defaultdict[str, int] = defaultdict(None, {word: index for index, word in enumerate(vocabulary)})
    ids_by_word.default_factory = ids_by_word.__len__
    ids = _ids(source, ids_by_word).copy()
    is_unknown = ids >= len(vocabulary)
    if is_unknown.any():
        if UNKNOWN not in vocabulary:
            word = list(ids_by_word)[len(vocabulary)]
            raise DataError(
                f"{source.where}: holds the word {word!r}, which the network does not know, and it has no {UNKNOWN} "
                "to take for it"
            )
        ids[is_unknown] = vocabulary.index(UNKNOWN)
    return torch.from_numpy(ids), int(is_unknown.sum())


def _ids(source: Source, ids_by_word: defaultdict[str, int]) -> NDArray[np.int64]:
    """The ids of a text's words; words that are new get the next ids."""
    where = source.where
    lines = _lines(source)
    ids = array("q")
    for line in lines:
        ids.extend(map(ids_by_word.__getitem__, line.split()))
        ids.append(ids_by_word[EOS])
    if len(ids) == len(lines):
        raise DataError(f"{where}: holds no word")
    written = np.frombuffer(ids, np.int64)
    if (written == ids_by_word[EOS]).sum() > len(lines):
        number = next(number for number, line in enumerate(lines, 1) if EOS in line.split())
        raise DataError(f"{where}: line {number} holds the word {EOS}, which is added to every line; remove it")
    return written


def _lines(source: Source) -> list[str]:
    where, content = source
    text = content if isinstance(content, str) else _decode(content, where)
    if "\0" in text:
        raise DataError(f"{where}: holds NUL characters, the first at {text.index(chr(0))}; give plain text in UTF-8")
    if not text:
        raise DataError(f"{where}: is empty")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in text and len(text) > _LONGEST_WITHOUT_BREAK:
        raise DataError(f"{where}: {len(text):,} characters without a line break; lines are sentences and must end")
    lines = text.split("\n")
    if not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST_LINE:
            raise DataError(
                f"{where}: line {number} has {len(line):,} characters, more than {_LONGEST_LINE:,}; "
                "lines are sentences and must end"
            )
    return lines


def _decode(content: bytes, where: str) -> str:
    if b"\0" in content:
        offset = content.index(b"\0")
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        kind = "is text in UTF-16, as its byte order mark says, and so " if is_wide else ""
        raise DataError(f"{where}: {kind}holds NUL bytes, the first at offset {offset}; give plain text in UTF-8")
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: is not UTF-8, the byte {content[error.start]:#04x} at offset {error.start} cannot be read; "
            "save the text as UTF-8"
        ) from None


def _keep(
    words: list[str], counts: NDArray[np.int64], others: bool, max_vocabulary: int | None, min_count: int
) -> NDArray[np.bool_]:
    """Which words of the training text stay; `others` says whether the remaining texts hold words beyond them."""
    special = np.array([word in (EOS, UNKNOWN) for word in words[: len(counts)]])
    included = special | (counts >= min_count)
    unknown_needed = UNKNOWN not in words[: len(counts)] and (others or not included.all())
    if max_vocabulary is not None and included.sum() + unknown_needed > max_vocabulary:
        ranked = np.argsort(-np.where(included & ~special, counts, 0), kind="stable")
        included = special.copy()
        included[ranked[: max_vocabulary - 2]] = True
    return included
