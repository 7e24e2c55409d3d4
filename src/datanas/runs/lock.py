"""The lock that keeps a second process out of a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from datanas.atomic import storage_errors
from datanas.errors import RunInUseError

_held: set[int] = set()


def _drop_in_child() -> None:
    # A forked data loader shares the lock and would hold it past the death of the run that owns it.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)


class Lock:
    """Holds the file `path`, with pid and host in it, until `release` or the end of this process.

    Raises:
        RunInUseError: another process holds it.
        StorageError: it cannot be written; it is removed.
    """

    def __init__(self, path: Path) -> None:
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
            except BlockingIOError:
                holder = _holder(os.pread(descriptor, 4096, 0))
                os.close(descriptor)
                raise RunInUseError(
                    f"{path.parent} is in use by {holder}; wait until it ends, or choose another --run.name"
                ) from None
            except BaseException:
                path.unlink(missing_ok=True)
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
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1


def _holder(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
