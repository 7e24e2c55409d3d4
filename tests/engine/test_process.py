"""A run leaves its process as it has found it."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from datanas.engine.process import configure_process, process_kept

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def seen() -> tuple[object, ...]:
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    deterministic = torch.are_deterministic_algorithms_enabled()
    return torch.get_num_threads(), deterministic, fills, os.environ.get("CUBLAS_WORKSPACE_CONFIG"), sys.stderr


def test_what_a_run_asks_for_ends_with_it() -> None:
    before = seen()
    with process_kept():
        configure_process(threads=1, deterministic=True, device=CPU)
        assert seen()[:2] == (1, True)
    assert seen() == before


def test_it_ends_with_a_run_that_fails_too() -> None:
    @process_kept()
    def fail() -> None:
        configure_process(threads=1, deterministic=True, device=CPU)
        raise RuntimeError

    before = seen()
    with pytest.raises(RuntimeError):
        fail()
    assert seen() == before


def test_what_the_caller_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with process_kept():
            configure_process(threads=None, deterministic=True, device=CPU)
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_run_inside_another_puts_nothing_back_before_its_end() -> None:
    with process_kept():
        configure_process(threads=None, deterministic=True, device=CPU)
        with process_kept():
            configure_process(threads=None, deterministic=False, device=CPU)
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_last_of_several_threads_puts_back() -> None:
    entered, leave, after = threading.Event(), threading.Event(), []

    def run() -> None:
        with process_kept():
            configure_process(threads=1, deterministic=True, device=CPU)
            entered.set()
            leave.wait(60)
        after.append(torch.get_num_threads())

    with process_kept():
        configure_process(threads=None, deterministic=False, device=CPU)
        thread = threading.Thread(target=run)
        thread.start()
        assert entered.wait(60)
        leave.set()
        thread.join(60)
        assert torch.are_deterministic_algorithms_enabled()
    assert after == [2]  # a thread's own number comes back at once
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_whatever_the_mode_of_the_caller(mode: type[torch.no_grad]) -> None:
    with mode():
        with process_kept():
            (torch.ones(1, requires_grad=True) * 2).backward()
        assert not torch.is_grad_enabled()


def test_a_closed_stream_is_silent_inside_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with process_kept():
        print("a warning of any library", file=sys.stderr)
    assert sys.stderr is stream
