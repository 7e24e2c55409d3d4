"""Files that are written whole or not at all, and the error where they cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from datanas.core.errors import StorageError
from datanas.core.paths import shown

_WAYS_OUT = {
    errno.ENOSPC: "; free some space there",
    errno.EDQUOT: "; free some space there",
    errno.EROFS: "; choose a folder that can be written",
    errno.EACCES: "; choose a folder that can be written",
    errno.EPERM: "; choose a folder that can be written",
}


_HALF = ".tmp"
"""How the name of a file that is not yet whole ends."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, "")
        raise StorageError(f"{shown(path)}: cannot be written: {error.strerror or error}{way_out}") from error


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` to `path` and wait until the device holds it.

    Raises:
        OSError: the write failed; a part of the file may be left.
    """
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the device holds the names in the folder `path`, where its file system can promise that.

    Windows opens no folders; it has no such promise.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed inside `write_atomic` have left under a folder."""
    for path in folder.rglob(f".*{_HALF}"):
        pid = path.name.removesuffix(_HALF).rpartition(".")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            with suppress(OSError):
                path.unlink()


def _is_alive(pid: int) -> bool:
    """Whether another process of that number runs; taken for granted on Windows, where a signal would end it."""
    if os.name == "nt":
        return pid != os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return pid != os.getpid()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folder: a reader sees the old content or the new, never a part.

    Raises:
        StorageError: the write failed; the old content stands.
    """
    with _replacing(path) as temporary:
        write_synced(temporary, data)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write what does not fit into memory twice; it stands at `path` once the block has ended well.

    Raises:
        StorageError: it cannot be written.
    """
    with _replacing(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """The name of a file that takes the place of `path` where the block ends well, and is removed otherwise."""
    if not path.name or "\0" in str(path):
        raise StorageError(f"{shown(path)!r}: is no name of a file")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{_HALF}")
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
