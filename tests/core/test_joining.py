"""What is said where processes do not fit the machine, or what started this one (see also tests/faults)."""

from __future__ import annotations

import builtins
import multiprocessing
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from datanas.core import joining
from datanas.core.errors import ConfigError
from datanas.core.joining import join
from datanas.core.processes import ALONE


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
    assert joining._what_cannot_be_run_again() is None
    main_module.__spec__ = ModuleSpec("datanas.__main__", None)
    assert joining._what_cannot_be_run_again() is None


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
