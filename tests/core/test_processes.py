"""One process alone, the shares of a batch, and what is said where processes do not fit (see also tests/faults)."""

from __future__ import annotations

import builtins
import multiprocessing
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from datanas.core import processes as distributed
from datanas.core.errors import ConfigError, ProcessLostError
from datanas.core.processes import ALONE, Processes, ProcessGroup, join


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


@pytest.fixture
def as_one_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torchrun had started this process with three others."""
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("as_one_of_four")
def test_devices_that_differ_from_what_torchrun_has_started() -> None:
    with pytest.raises(ConfigError, match="devices: 3 on 1 machines, but torchrun has started 4"):
        join("cpu", 3, 1, 60)


def test_machines_that_do_not_know_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "host")
    with pytest.raises(ConfigError, match="2 machines need MASTER_PORT and NODE_RANK set on each, or torchrun"):
        join("cpu", 1, 2, 60)


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


def test_one_process_needs_no_others() -> None:
    assert join("cpu", 1, 1, 60) is ALONE


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What stands for the program that Python was started with: at first a script that is there."""
    main = ModuleType("__main__")
    main.__spec__ = None
    main.__file__ = __file__
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [__file__])
    monkeypatch.delattr(builtins, "get_ipython", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return main


def refusal() -> str:
    with pytest.raises(ConfigError, match="script file") as caught:
        join("cpu", 2, 1, 10.0)
    return str(caught.value)


def test_a_script_and_a_module_can_be_run_again(main_module: ModuleType) -> None:
    assert distributed._what_cannot_be_run_again() is None
    main_module.__spec__ = ModuleSpec("datanas.__main__", None)
    assert distributed._what_cannot_be_run_again() is None


@pytest.mark.parametrize("argument", ["-c", "-", ""])
def test_a_program_without_a_file_starts_no_others(
    argument: str, main_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """python -c, standard input, and Python inside another program."""
    del main_module.__file__
    monkeypatch.setattr(sys, "argv", [argument])
    assert "python -c, standard input" in refusal()


def test_a_notebook_starts_no_others(main_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    assert "a notebook" in refusal()


def test_an_interactive_session_starts_no_others(main_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert "interactive session" in refusal()


def test_a_frozen_program_starts_no_others(main_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "frozen executable" in refusal()


def test_an_archive_starts_no_others(main_module: ModuleType) -> None:
    main_module.__spec__ = ModuleSpec("__main__", None)
    assert "archive" in refusal()


def test_a_process_of_multiprocessing_starts_no_others(
    main_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    assert "multiprocessing" in refusal()


def test_a_script_that_cannot_be_found_starts_no_others(
    main_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gone.py"])
    assert "gone.py" in refusal()
