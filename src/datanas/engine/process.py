"""What a run changes in its process, and what it puts back when it ends.

Threads, deterministic algorithms, the C library's memory and standard error belong to the whole process, and that to
whoever calls this package. Runs in several threads share them: the last one that ends puts them back.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TextIO

import torch

from datanas.core.console import Silence, is_usable
from datanas.kernels.hardware import keep_freed_memory, return_freed_memory

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@dataclass
class _Before:
    """The process as the first of the runs that go on now has found it."""

    threads: int
    deterministic: bool
    warn_only: bool
    fills_memory: bool
    workspace: str | None
    stderr: TextIO
    keeps_memory: bool = False

    @classmethod
    def of_now(cls) -> _Before:
        return cls(
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
            os.environ.get(_CUBLAS),
            sys.stderr,
        )

    def put_back(self) -> None:
        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.fills_memory  # type: ignore[attr-defined]
        if self.workspace is None:
            os.environ.pop(_CUBLAS, None)
        else:
            os.environ[_CUBLAS] = self.workspace
        if isinstance(sys.stderr, Silence):
            sys.stderr = self.stderr
        if self.keeps_memory:
            return_freed_memory()


_lock = threading.RLock()
_runs = 0
_before: _Before | None = None


@contextmanager
def process_kept() -> Iterator[None]:
    """Run a block that learns and may call `configure_process`, and leave the process as it was, even after an error.

    Gradients are on inside, whatever mode the caller is in. What a stream that is closed would raise for every warning
    of every library, it does not raise inside.
    """
    global _runs, _before
    with _lock:
        if _before is None:
            _before = _Before.of_now()
            if sys.stderr is not None and not is_usable(sys.stderr):
                sys.stderr = Silence()
        _runs += 1
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        with _lock:
            _runs -= 1
            if _runs == 0:
                _before.put_back()
                _before = None
            else:
                _put_back_threads_here(_before.threads)


def configure_process(*, threads: int | None, deterministic: bool, device: torch.device) -> None:
    """Set what a run asks for, until the `process_kept` around it ends.

    Args:
        threads: CPU threads of torch; None for as many as there were.
        deterministic: whether torch takes deterministic algorithms only; a run beside this one may have asked for it.
        device: where the run computes.
    """
    with _lock:
        if threads is not None:
            torch.set_num_threads(threads)
        if deterministic:
            os.environ.setdefault(_CUBLAS, ":4096:8")
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if device.type == "cpu":
            keep_freed_memory()
            if _before is not None:
                _before.keeps_memory = True


def _put_back_threads_here(threads: int) -> None:
    """Give this thread its number of threads back while other runs go on.

    OpenMP's number is each thread's own. torch's function would also set that of the matrix products of all threads.
    """
    if torch.get_num_threads() != threads:
        libraries = import_module("threadpoolctl").ThreadpoolController()  # brought along by scikit-learn
        for library in libraries.select(user_api="openmp").lib_controllers:
            library.set_num_threads(threads)
