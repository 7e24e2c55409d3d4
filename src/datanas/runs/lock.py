"""The lock that keeps a second process out of a run folder."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from datanas.core.atomic import storage_errors
from datanas.core.errors import RunInUseError

LOCK_FILE = "lock"
"""Its name in a run folder."""
_held: set[int] = set()
_LOCKED_BYTE = 1 << 20
"""On Windows a locked byte cannot be read, so it stands far behind what the file says."""


def _drop_in_child() -> None:
    # A forked data loader shares the lock and would hold it past the death of the run that owns it.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):  # Windows forks nothing
    os.register_at_fork(after_in_child=_drop_in_child)


class Lock:
    """Holds the file `path`, with pid and host in it, until `release` or the end of this process.

    The lock is the system's, so that of a dead process is free: flock, or on Windows a locked byte. Where Python has
    neither, nothing is locked.

    Raises:
        RunInUseError: another process holds it.
        StorageError: it cannot be written; it is removed.
    """

    def __init__(self, path: Path) -> None:
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                if not _take(descriptor):
                    holder = _holder(_read(descriptor))
                    raise RunInUseError(
                        f"{path.parent} is in use by {holder}; wait until it ends, or choose another --run.name"
                    )
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
            except RunInUseError:
                os.close(descriptor)
                raise
            except BaseException:
                if os.name == "nt":  # which removes no file that is open
                    os.close(descriptor)
                path.unlink(missing_ok=True)
                if os.name != "nt":
                    os.close(descriptor)
                raise
        self._descriptor = descriptor
        _held.add(descriptor)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock; a fork of it does not."""
        return self._descriptor in _held

    def release(self) -> None:
        """Let go, leaving the file empty. Does nothing the second time."""
        if self.is_held:
            _held.discard(self._descriptor)
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            with suppress(OSError):
                _let_go(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at `path`; asking writes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return False
    try:
        if _take(descriptor):
            _let_go(descriptor)
            return False
        return True
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Lock the file, if nobody else has; False where somebody has."""
    if sys.platform == "win32":
        msvcrt = import_module("msvcrt")
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt = import_module("msvcrt")
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return
    with suppress(ImportError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 4096)


def _holder(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
