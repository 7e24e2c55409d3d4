"""Random numbers depend on (seed, stream, step) and on nothing else."""

from __future__ import annotations

import pytest
import torch

from datanas.seeding import generator, key, keyed


def test_a_key_is_the_same_in_every_process() -> None:
    """Golden numbers: a run must be repeatable by a later version."""
    assert key(0, "gates", 1) == 4452198089729135454
    assert key(7, "order/train") == 1209514394056721890


def test_keys_are_63_bit_numbers() -> None:
    assert all(0 <= key(seed, "x", step) < 2**63 for seed in range(20) for step in range(20))


def test_every_argument_counts() -> None:
    keys = [key(1, "a", 2), key(2, "a", 2), key(1, "b", 2), key(1, "a", 3), key(1, "a"), key(1, "a", 2, 0)]
    keys += [key(12, "a"), key(1, "a", 23), key(1, "a", 2, 3), key(1, "a2")]
    assert len(set(keys)) == len(keys)


def test_a_generator_starts_from_its_key() -> None:
    first, again, other = (torch.rand(8, generator=generator(3, "a", step)) for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_keyed_block_repeats_whatever_came_before() -> None:
    found = []
    for _ in range(2):
        torch.rand(3)
        with keyed(0, "weights", 5):
            found.append(torch.rand(8))
    assert torch.equal(*found)


def test_a_keyed_block_depends_on_its_key() -> None:
    with keyed(0, "weights", 5):
        first = torch.rand(8)
    with keyed(0, "weights", 6):
        assert not torch.equal(first, torch.rand(8))


def test_a_keyed_block_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    with keyed(0, "weights"):
        torch.rand(8)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_keyed_block_restores_the_state_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError), keyed(0, "weights"):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), state)
