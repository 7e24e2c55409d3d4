"""Settings that follow from how many words a text has, and how many different ones."""

from __future__ import annotations

import pytest

from datanas.tasks.text_settings import FEWER_WORDS, LARGE_VOCABULARY, SAMPLED_WORDS, lighter, suited


@pytest.mark.parametrize(
    ("words", "columns"), [(4_999, 4), (5_000, 16), (49_999, 16), (50_000, 32), (499_999, 32), (500_000, 64)]
)
def test_few_words_make_few_steps_of_many_columns(words: int, columns: int) -> None:
    settings = suited(words, 1_000)
    assert settings["train"]["batch_size"] == columns
    assert settings["search"]["batch_size"] == min(32, columns)
    assert settings["search"]["examples"] == min(200_000, words)


@pytest.mark.parametrize("words", [4_000, 20_000, 60_000, FEWER_WORDS, FEWER_WORDS + 1, 2_000_000])
def test_a_lighter_search_has_less_in_a_step_and_at_last_fewer_words(words: int) -> None:
    steps = [each["search"] for each in lighter(words)]
    sizes = [suited(words, 1_000)["search"]["batch_size"], *(step["batch_size"] for step in steps)]
    fewer = [step.get("examples") for step in steps]
    without = len(sizes) - (words > FEWER_WORDS)
    assert sizes[:without] == sorted(set(sizes), reverse=True)
    assert fewer[: without - 1] == [None] * (without - 1)
    assert fewer[without - 1 :] == [FEWER_WORDS] * (words > FEWER_WORDS)


def test_of_a_large_vocabulary_some_words_stand_for_all() -> None:
    small, large = suited(10**6, LARGE_VOCABULARY - 1), suited(10**6, 4 * LARGE_VOCABULARY)
    assert small["task"]["sampled_words"] is None
    assert large["task"]["sampled_words"] == SAMPLED_WORDS
    assert large["search"]["gap"]["examples"] == small["search"]["gap"]["examples"] // 4
