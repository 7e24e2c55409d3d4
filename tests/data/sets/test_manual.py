from __future__ import annotations

import sys
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanas.core.errors import DataError
from datanas.data.sets.manual import Manual, divide, sentences_of
from datanas.data.types.corpus import EOS, SPLITS, UNKNOWN, TextData


def load(**settings: Any) -> TextData:
    return Manual(Manual.Config(**settings)).load()


def test_words_numbers_and_signs_are_tokens() -> None:
    topic = 'The "assert" statement\n***\n\nNew in 3.11: f(x_1) -> 0x1F...\n  isn\'t __debug__.\n'
    assert sentences_of(topic) == ['the " assert " statement', "new in N : f ( x_1 ) - > N ... isn 't __debug__ ."]


def test_a_topic_without_words_has_no_sentence() -> None:
    assert sentences_of("\n\n*****\n\n   \n") == []


def test_a_paragraph_of_several_topics_is_kept_once() -> None:
    parts = divide({"a": "one two\n\nshared words", "b": "Shared\nwords\n\nthree", "c": "three\n\nthree"})
    assert sorted(chain.from_iterable(parts.values())) == ["one two", "shared words", "three"]


def test_a_topic_is_never_divided_between_parts() -> None:
    parts = divide({f"{number:02}": f"first of w{number}\n\nsecond of w{number}" for number in range(30)})
    for split in SPLITS:
        topics = [sentence.split()[-1] for sentence in parts[split]]
        assert topics
        assert topics[::2] == topics[1::2]


@given(st.lists(st.integers(1, 30), min_size=60, max_size=90))
def test_each_part_has_about_its_share(sizes: list[int]) -> None:
    topics = {
        f"{number:02}": " ".join(f"w{number}x{place}" for place in range(size)) for number, size in enumerate(sizes)
    }
    words = {split: len(" ".join(sentences).split()) for split, sentences in divide(topics).items()}
    assert sum(words.values()) == sum(sizes)
    shares = {"train": 0.8, "valid": 0.1, "test": 0.1}
    for split, count in words.items():
        assert abs(count - shares[split] * sum(sizes)) <= 2 * max(sizes)


def test_the_manual_is_large_enough_to_search_on() -> None:
    data = load()
    total = len(data.train) + len(data.valid) + len(data.test)
    assert total > 50_000
    assert 0.7 < len(data.train) / total < 0.9
    assert min(len(data.valid), len(data.test)) / total > 0.05


def test_the_parts_share_no_sentence_of_words() -> None:
    data = load(min_count=1)
    sentences = []
    for split in SPLITS:
        text = " ".join(data.vocabulary[index] for index in getattr(data, split).tolist())
        sentences.append({line.strip() for line in text.split(EOS) if UNKNOWN not in line and line.strip()})
    train, valid, test = sentences
    assert not train & valid
    assert not train & test
    assert not valid & test


def test_rare_words_are_unknown_as_asked() -> None:
    assert UNKNOWN in load().vocabulary
    assert len(load(min_count=5).vocabulary) < len(load().vocabulary) < len(load(min_count=1).vocabulary)


def test_without_a_limit_every_word_of_the_training_text_is_kept() -> None:
    data = load(min_count=1)
    assert data.vocabulary[-1] == UNKNOWN
    assert not (data.train == len(data.vocabulary) - 1).any()


def test_the_vocabulary_is_limited_as_asked() -> None:
    assert len(load(max_vocabulary=500).vocabulary) == 500


def test_a_python_without_the_manual_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"^manual: this Python has no pydoc_data\.topics"):
        load()
