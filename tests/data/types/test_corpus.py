from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datanas.core.errors import DataError
from datanas.data.types.corpus import EOS, SPLITS, UNKNOWN, Source, TextData, encode

SOUND = {"train": "b a\nb c\n", "valid": "a b\n", "test": "c\n"}


def encoded(texts: Mapping[str, str | bytes], **settings: Any) -> TextData:
    return encode({split: Source(f"corpus {split}.txt", texts[split]) for split in SPLITS}, **settings)


def read_back(data: TextData, split: str) -> list[str]:
    return [data.vocabulary[index] for index in getattr(data, split).tolist()]


def test_each_line_becomes_its_words_and_an_end() -> None:
    data = encoded(SOUND)
    assert read_back(data, "train") == ["b", "a", EOS, "b", "c", EOS]
    assert read_back(data, "valid") == ["a", "b", EOS]
    assert data.train.dtype == torch.int64


def test_words_are_numbered_as_they_first_appear_in_the_training_text() -> None:
    data = encoded(SOUND)
    assert data.vocabulary == ("b", "a", EOS, "c")
    assert data.eos == 2


def test_a_blank_line_is_a_lone_end() -> None:
    assert read_back(encoded({**SOUND, "train": "a\n\n \n b c"}), "train") == ["a", EOS, EOS, EOS, "b", "c", EOS]


@pytest.mark.parametrize("last", ["c\n", "c", "c\n  "])
def test_what_follows_the_last_line_break_counts_if_it_has_words(last: str) -> None:
    assert read_back(encoded({**SOUND, "train": f"a b\n{last}"}), "train") == ["a", "b", EOS, "c", EOS]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_line_ends(end: str) -> None:
    data = encoded({**SOUND, "train": SOUND["train"].replace("\n", end)})
    assert torch.equal(data.train, encoded(SOUND).train)


def test_bytes_are_read_as_utf8_without_its_mark() -> None:
    data = encoded({**SOUND, "train": b"\xef\xbb\xbf" + "Zürich a\nb c\n".encode()})
    assert data.vocabulary == ("Zürich", "a", EOS, "b", "c")


def test_words_that_the_training_text_lacks_become_unknown_and_are_counted() -> None:
    data = encoded({"train": "a b\n", "valid": "a x y\n", "test": "x\nb\nx\n"})
    assert data.vocabulary == ("a", "b", EOS, UNKNOWN)
    assert read_back(data, "valid") == ["a", UNKNOWN, UNKNOWN, EOS]
    assert data.unknown == {"valid": 2, "test": 2}


def test_unknown_is_a_word_only_where_it_is_needed() -> None:
    data = encoded(SOUND)
    assert UNKNOWN not in data.vocabulary
    assert data.unknown == {"valid": 0, "test": 0}


def test_the_unknown_word_of_the_training_text_keeps_its_place() -> None:
    data = encoded({"train": f"a {UNKNOWN} b\n", "valid": f"x {UNKNOWN}\n", "test": "a\n"})
    assert data.vocabulary == ("a", UNKNOWN, "b", EOS)
    assert read_back(data, "valid") == [UNKNOWN, UNKNOWN, EOS]
    assert data.unknown == {"valid": 1, "test": 0}


def test_a_limited_vocabulary_keeps_the_most_frequent_words() -> None:
    texts = {"train": "rare often seldom often\nseldom often late late\n", "valid": "late rare\n", "test": "often\n"}
    data = encoded(texts, max_vocabulary=4)
    assert data.vocabulary == ("often", "seldom", EOS, UNKNOWN)
    assert data.unknown == {"train": 3, "valid": 2, "test": 0}


def test_a_limit_that_the_words_keep_to_changes_nothing() -> None:
    data = encoded(SOUND, max_vocabulary=4)
    assert data.vocabulary == encoded(SOUND).vocabulary
    assert data.unknown == {"train": 0, "valid": 0, "test": 0}


def test_a_limit_leaves_room_for_the_unknown_word_of_another_text() -> None:
    data = encoded({**SOUND, "test": "x\n"}, max_vocabulary=4)
    assert data.vocabulary == ("b", "a", EOS, UNKNOWN)


def test_words_that_are_too_rare_become_unknown() -> None:
    data = encoded(SOUND, min_count=2)
    assert data.vocabulary == ("b", EOS, UNKNOWN)
    assert data.unknown == {"train": 2, "valid": 1, "test": 1}


def test_the_digest_tells_vocabularies_of_one_size_apart() -> None:
    data = encoded(SOUND)
    assert data.digest == encoded(SOUND).digest
    assert 0 <= data.digest < 2**63
    for other in (("b", "c", EOS, "a"), ("ba", "", EOS, "c"), ("b", "a", EOS, "d")):
        assert replace(data, vocabulary=other).digest != data.digest


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty$"),
        (b"\xef\xbb\xbf", "is empty$"),
        (b" \n\t\n", "holds no word$"),
        (b"a b\nc \xff d\n", "is not UTF-8, the byte 0xff at offset 6 cannot be read"),
        ("\ufeffa b\n".encode() + b"\xc3", "is not UTF-8, the byte 0xc3 at offset 7 "),
        (b"a b\n\0c\n", "holds NUL bytes, the first at offset 4;"),
        ("a b\n".encode("utf-16"), "holds NUL bytes, the first at offset 3; give plain text in UTF-8$"),
        ("a \0\n", "holds NUL characters, the first at 2;"),
        (b"a " * 50_001, "100,002 characters without a line break; lines are sentences and must end$"),
        (b"a\n" + b"b " * 500_001 + b"\nc\n", "line 2 has 1,000,002 characters, more than 1,000,000; lines are sen"),
        (f"a b\nc {EOS}\n", "line 2 holds the word <eos>, which is added to every line; remove it$"),
    ],
)
def test_each_fault_is_named_with_its_file(split: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        encoded({**SOUND, split: content})
    assert str(caught.value).startswith(f"corpus {split}.txt: ")


@pytest.mark.parametrize("content", ["a " * 50_000, "b " * 500_000 + "\n"])
def test_lines_of_the_greatest_length_are_read(content: str) -> None:
    assert len(encoded({**SOUND, "train": content}).train) == content.count(" ") + 1


word = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=4)
sentences = st.lists(st.lists(word, max_size=6), min_size=1, max_size=8).filter(any)


@given(train=sentences, valid=sentences, test=sentences)
def test_ids_decode_to_the_words_of_the_text(
    train: list[list[str]], valid: list[list[str]], test: list[list[str]]
) -> None:
    parts = {"train": train, "valid": valid, "test": test}
    data = encoded({split: "".join(" ".join(line) + "\n" for line in lines) for split, lines in parts.items()})
    known = {EOS, *(word for line in train for word in line)}
    for split, lines in parts.items():
        expected = [word if word in known else UNKNOWN for line in lines for word in (*line, EOS)]
        assert read_back(data, split) == expected


@given(train=sentences, valid=sentences, limit=st.integers(3, 12), least=st.integers(1, 3))
def test_a_limited_vocabulary_is_as_small_as_asked_and_no_kept_word_is_rarer_than_a_lost_one(
    train: list[list[str]], valid: list[list[str]], limit: int, least: int
) -> None:
    text = {"train": train, "valid": valid, "test": train}
    data = encoded(
        {split: "\n".join(map(" ".join, lines)) for split, lines in text.items()},
        max_vocabulary=limit,
        min_count=least,
    )
    assert len(data.vocabulary) <= limit
    words = [word for line in train for word in line]
    kept = [words.count(word) for word in data.vocabulary if word not in (EOS, UNKNOWN)]
    lost = [words.count(word) for word in set(words) - set(data.vocabulary)]
    assert min(kept, default=least) >= max([count for count in lost if count >= least], default=least)
    assert data.unknown["train"] == sum(lost)
