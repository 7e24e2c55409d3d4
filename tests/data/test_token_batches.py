from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datanas.data.token_batches import TokenStream

LENGTH = 7


def stream(words: int = 200, columns: int = 3, *, varied: bool = False, seed: int = 0) -> TokenStream:
    return TokenStream(torch.arange(words), columns, LENGTH, varied=varied, seed=seed, part="train")


@given(
    words=st.integers(13, 400),
    columns=st.integers(1, 6),
    varied=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_a_pass_reads_every_step_of_every_column_once_and_in_order(
    words: int, columns: int, varied: bool, epoch: int
) -> None:
    made = stream(words, columns, varied=varied)
    steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
    batches = [made.batch(step) for step in steps]
    assert all(len(batch.tokens) > 0 for batch in batches)
    columns_read = torch.cat([batch.tokens for batch in batches]).T
    assert torch.equal(columns_read.flatten(), torch.arange(columns * ((words - 1) // columns)))
    assert [batch.begins for batch in batches] == [place == 0 for place in range(len(batches))]


def test_targets_are_the_next_words_across_columns_too() -> None:
    made = stream()
    for step in range(made.steps_per_epoch):
        batch = made.batch(step)
        assert torch.equal(batch.targets, batch.tokens + 1)


def test_lengths_stay_or_vary_anew_in_every_pass() -> None:
    still, varied = stream(2000), stream(2000, varied=True)
    count = still.steps_per_epoch
    assert varied.steps_per_epoch == count
    assert [len(still.batch(step).tokens) for step in range(count - 1)] == [LENGTH] * (count - 1)
    first, second = ([len(varied.batch(epoch * count + step).tokens) for step in range(count)] for epoch in range(2))
    assert first != second
    assert len(set(first)) > 3
    other = stream(2000, varied=True, seed=1)
    assert first != [len(other.batch(step).tokens) for step in range(count)]


def test_a_share_is_some_of_the_columns() -> None:
    made = stream()
    assert torch.equal(made.batch(4, slice(1, 3)).tokens, made.batch(4).tokens[:, 1:3])


def test_a_text_that_does_not_fill_two_steps_is_refused() -> None:
    assert TokenStream.fewest(3) == 7
    assert stream(7).rows == 2
    with pytest.raises(ValueError, match="6 words do not fill 3 columns"):
        stream(6)


def test_no_batch_is_empty_however_lengths_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.data.token_batches.SPREAD", 500.0)
    made = stream(400, varied=True)
    assert all(len(made.batch(step).tokens) > 0 for step in range(20 * made.steps_per_epoch))
