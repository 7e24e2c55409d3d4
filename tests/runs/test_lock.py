from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datanas.core.errors import RunInUseError
from datanas.runs import RunFolder
from datanas.runs.lock import Lock

HOLD = """
import os, sys
from pathlib import Path
from datanas.runs import RunFolder
run = RunFolder.create(Path(sys.argv[1]), "run", "search")
run.write_text("config.yaml", "")
if sys.argv[2] == "fork" and os.fork() == 0:
    run.discard()
    print("forked", flush=True)
    sys.stdin.readline()
    os._exit(0)
if sys.argv[2] == "plain":
    print("held", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@contextmanager
def holder(root: Path, mode: str = "plain") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout.readline().strip() in ("held", "forked")
            yield process
        finally:
            process.kill()


def test_a_held_lock_is_refused(tmp_path: Path) -> None:
    with holder(tmp_path), pytest.raises(RunInUseError):
        Lock(tmp_path / "run" / "lock")


def test_a_run_that_another_process_sets_up_is_refused_and_left_alone(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / "run" / "config.yaml").unlink()
        with pytest.raises(RunInUseError):
            RunFolder.create(tmp_path, "run", "search")
        assert os.listdir(tmp_path / "run") == ["lock"]


def test_the_message_names_the_process(tmp_path: Path) -> None:
    with holder(tmp_path) as process, pytest.raises(RunInUseError) as caught:
        RunFolder.open(tmp_path / "run")
    assert caught.value.exit_code == 7
    assert f"{tmp_path / 'run'} is in use by process {process.pid} on {socket.gethostname()}" in str(caught.value)


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        RunFolder.open(tmp_path / "run").close()


def test_a_fork_neither_removes_the_run_nor_holds_it_past_the_death_of_its_parent(tmp_path: Path) -> None:
    with holder(tmp_path, "fork") as process:
        assert (tmp_path / "run" / "config.yaml").exists()
        with pytest.raises(RunInUseError):
            RunFolder.open(tmp_path / "run")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        RunFolder.open(tmp_path / "run").close()
        process.stdin.close()


def test_the_file_holds_pid_and_host_and_is_empty_afterwards(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert json.loads((tmp_path / "lock").read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}
    assert lock.is_held
    lock.release()
    lock.release()
    assert not lock.is_held
    assert (tmp_path / "lock").read_text() == ""


@pytest.mark.parametrize("content", ["", "[]", "{}", "123", "\x00"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, content: str) -> None:
    lock = Lock(tmp_path / "lock")
    (tmp_path / "lock").write_text(content)
    with pytest.raises(RunInUseError, match="in use by another process"):
        Lock(tmp_path / "lock")
    lock.release()


def test_without_the_system_s_locks_a_run_goes_on_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    lock = Lock(tmp_path / "lock")
    assert json.loads((tmp_path / "lock").read_bytes())["pid"] == os.getpid()
    lock.release()
    assert (tmp_path / "lock").read_bytes() == b""


class Msvcrt:
    """Windows' locks on bytes, as its documentation has them, for this process."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        self.locked: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        byte = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if mode == self.LK_UNLCK:
            del self.locked[byte]
        elif byte in self.locked:
            raise PermissionError(13, "Permission denied")
        else:
            self.locked[byte] = count


def test_windows_locks_one_byte_behind_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what its documentation says: nothing ran on Windows."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    lock = Lock(tmp_path / "lock")
    with pytest.raises(RunInUseError, match=f"process {os.getpid()}"):
        Lock(tmp_path / "lock")
    lock.release()
    Lock(tmp_path / "lock").release()
