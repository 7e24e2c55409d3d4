"""Random numbers depend on (seed, stream, step) and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datanas.core.seeding import Reach, current, generator, key, keyed, put_back, reach_of
from datanas.kernels.mixed import _dropped


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


@pytest.mark.parametrize("reach", ["thread", "asking", "process"])
def test_whatever_it_reaches_a_block_gives_the_same_numbers_to_who_asks(reach: Reach) -> None:
    with keyed(0, "weights", reach=reach):
        found = torch.rand(5, generator=current())
    assert torch.equal(found, torch.rand(5, generator=generator(0, "weights")))


def test_outside_of_a_block_torch_s_own_generator_counts() -> None:
    assert current() is None


def test_a_block_inside_another_has_its_own_numbers_and_takes_none_of_the_other() -> None:
    with keyed(0, "outer"):
        first = torch.rand(3)
        with keyed(0, "inner", reach="asking"):
            inner = torch.rand(3, generator=current())
        second = torch.rand(3)
    with keyed(0, "outer"):
        assert torch.equal(torch.rand(6), torch.cat([first, second]))
    assert torch.equal(inner, torch.rand(3, generator=generator(0, "inner")))


@pytest.mark.parametrize("reach", ["thread", "asking", "process"])
def test_what_is_put_back_was_not_drawn(reach: Reach) -> None:
    with keyed(0, "weights", reach=reach):
        torch.rand(2, generator=current())
        with put_back():
            found = torch.rand(4, generator=current())
        assert torch.equal(found, torch.rand(4, generator=current()))


def test_a_generator_that_is_first_asked_for_in_what_is_put_back_starts_anew() -> None:
    with keyed(0, "weights"):
        with put_back():
            found = torch.rand(4)
        assert torch.equal(found, torch.rand(4))


def test_dropped_paths_are_keyed() -> None:
    def dropped() -> torch.Tensor:
        with keyed(0, "weights", reach="asking"):
            return _dropped(torch.ones(50, 1, 1, 1), torch.tensor(0.5))

    before = torch.get_rng_state()
    assert torch.equal(dropped(), dropped())
    assert torch.equal(torch.get_rng_state(), before)


class Stranger(nn.Module):
    """What a plugin brings."""


def test_only_strangers_and_compiled_code_cost_anything() -> None:
    assert reach_of(nn.Sequential(nn.Conv2d(1, 1, 1))) == "asking"
    assert reach_of(nn.Sequential(Stranger())) == "process"
    assert reach_of(nn.Identity(), object()) == "process"
    assert reach_of(nn.Identity(), is_compiled=True) == "process"


def test_asking_compiles_into_one_graph() -> None:
    """Compiled code cannot draw from a generator that it is given."""
    compiled = torch.compile(lambda x: _dropped(x, torch.tensor(0.5)), backend="eager", fullgraph=True)
    with keyed(0, "weights", reach="process"):
        found = compiled(torch.ones(50, 1, 1, 1))
    with keyed(0, "weights", reach="asking"):
        assert torch.equal(found, _dropped(torch.ones(50, 1, 1, 1), torch.tensor(0.5)))
