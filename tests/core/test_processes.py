"""One process alone, the shares of a batch, and what is exchanged (see also tests/faults)."""

from __future__ import annotations

import pytest
import torch

from datanas.core import processes as distributed
from datanas.core.errors import ConfigError, ProcessLostError
from datanas.core.processes import ALONE, Processes, ProcessGroup


class Second(Processes):
    rank, size = 1, 3


def test_alone_nothing_is_exchanged() -> None:
    tensor = torch.tensor([1.0, 2.0])
    ALONE.average([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert ALONE.total(tensor) is tensor
    assert ALONE.gather(tensor).tolist() == [[1.0, 2.0]]
    assert ALONE.first(lambda: b"work") == b"work"
    assert (ALONE.is_first, ALONE.own_key, ALONE.share(7)) == (True, (), slice(0, 7))


def test_alone_an_error_stays_what_it_is() -> None:
    with pytest.raises(KeyError), ALONE.together():
        raise KeyError


def test_shares_are_disjoint_and_whole() -> None:
    examples = list(range(12))
    shares = []
    for rank in range(3):
        one = Second()
        one.rank = rank
        shares += examples[one.share(12)]
    assert shares == examples


def test_a_batch_that_cannot_be_shared_equally() -> None:
    with pytest.raises(ConfigError, match="10 examples cannot be divided equally among 3 processes; take a multiple"):
        Second().share(10)


def test_only_the_first_has_the_key_of_one_alone() -> None:
    assert Second().own_key == (1,)
    assert not Second().is_first


def test_buckets_hold_all_in_order_and_no_more_than_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BUCKET", 10)
    tensors = [torch.zeros(size) for size in (4, 6, 1, 25, 9, 1)]
    buckets = list(distributed._buckets(tensors))
    assert [[len(tensor) for tensor in bucket] for bucket in buckets] == [[4, 6], [1], [25], [9, 1]]


def test_what_lies_elsewhere_is_averaged_on_the_device_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alphas lie on the host while gradients lie on a GPU, for which the meta device stands here."""
    group = object.__new__(ProcessGroup)
    group.rank, group.size, group.device = 0, 2, torch.device("meta")
    summed = []
    monkeypatch.setattr(ProcessGroup, "_sum", lambda _, tensor: summed.append(tensor.device.type))
    monkeypatch.setattr(torch, "_foreach_copy_", lambda tensors, parts: None)
    group.average([torch.zeros(3, device="meta"), torch.zeros(2), torch.zeros((), device="meta")])
    assert summed == ["meta"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), ProcessLostError),
        (torch.distributed.DistNetworkError("down"), ProcessLostError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("shapes do not match"), RuntimeError),
    ],
)
def test_only_a_lost_process_is_one(error: Exception, seen: type[Exception]) -> None:
    with pytest.raises(seen) as found, distributed._contact():
        raise error
    assert type(found.value) is seen
