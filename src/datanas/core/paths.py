"""What a user's path leads to: whatever the system answers becomes a message that names the path.

A path comes from people. It may be a name of 300 characters, a genotype that was pasted in the wrong place, a folder
that may not be read, a loop of links. Every function here but `json_object` and `require_unused` raises the error that
the caller names, so that the exit code tells what the path was for (DESIGN, "Exit codes").
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datanas.core.errors import ConfigError, DatanasError, StorageError

LONGEST = 120
"""Characters of a path that a message shows."""

_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
_OTHER_TEXTS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again: `datanas` under XDG_CACHE_HOME, or under ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A path that is not absolute counts for nothing (XDG Base Directory Specification).
    return (Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~"), ".cache")) / "datanas"


def shown(path: str | Path) -> str:
    """A path for a message, cut where it is very long."""
    text = str(path).replace("\n", " ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@contextmanager
def path_errors(path: str | Path, error: type[DatanasError]) -> Iterator[None]:
    """Turn what the system says of a path in the block into `error`, with the path and the reason."""
    try:
        yield
    except DatanasError:
        raise
    except OSError as fault:
        raise error(f"{shown(path)}: {fault.strerror or fault}") from None
    except ValueError as fault:  # a null character
        raise error(f"{shown(path)!r}: no path: {fault}") from None


def exists(path: str | Path, error: type[DatanasError]) -> bool:
    """Whether anything is there; raises `error` where the system cannot tell."""
    return _mode_if_there(path, error) is not None


def is_file(path: str | Path, error: type[DatanasError]) -> bool:
    """Whether a file is there; raises `error` where the system cannot tell."""
    mode = _mode_if_there(path, error)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: str | Path, error: type[DatanasError]) -> bool:
    """Whether a folder is there; raises `error` where the system cannot tell."""
    mode = _mode_if_there(path, error)
    return mode is not None and stat.S_ISDIR(mode)


def _mode_if_there(path: str | Path, error: type[DatanasError]) -> int | None:
    """None where nothing is there. pathlib's own questions say no, from Python 3.14 on, whatever went wrong."""
    with path_errors(path, error):
        try:
            return os.stat(path).st_mode
        except OSError as fault:
            if fault.errno in _NOTHING_THERE:
                return None
            raise
        except ValueError:  # a null character, which no name has
            return None


def require_unused(folder: Path) -> None:
    """Refuse what cannot become a new folder.

    Raises:
        ConfigError: there is a file, or a folder that is not empty.
        StorageError: the system cannot tell.
    """
    if exists(folder, StorageError) and (not is_folder(folder, StorageError) or folder_entries(folder, StorageError)):
        raise ConfigError(f"{shown(folder)}: exists and is not empty; choose another folder")


def require_folder(path: str | Path, error: type[DatanasError], where: str = "") -> None:
    """Make sure that a folder is there and can be listed.

    Args:
        where: what a message begins with; the path itself where that is empty.

    Raises:
        error: there is nothing, a file, a link that leads nowhere or round, or what may not be read.
    """
    where = where or shown(path)
    if not stat.S_ISDIR(_mode(path, error, where, "folder")):
        raise error(f"{where}: is a file; a folder is needed")
    try:
        os.scandir(path).close()
    except OSError as fault:
        raise error(f"{where}: {fault.strerror or fault}") from None


def require_file(path: str | Path, error: type[DatanasError], where: str = "") -> None:
    """Make sure that a file is there; as `require_folder`."""
    where = where or shown(path)
    if stat.S_ISDIR(_mode(path, error, where, "file")):
        raise error(f"{where}: no such file; it is a folder")


def _mode(path: str | Path, error: type[DatanasError], where: str, wanted: str) -> int:
    """What the system knows a path for."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            raise error(f"{where}: no such {wanted}: a link that leads nowhere") from None
        raise error(f"{where}: no such {wanted}") from None
    except OSError as fault:
        raise error(f"{where}: no such {wanted}: {fault.strerror or fault}") from None
    except ValueError as fault:  # a null character
        raise error(f"{shown(path)!r}: no path: {fault}") from None


def folder_entries(path: str | Path, error: type[DatanasError]) -> list[Path]:
    """What lies in a folder, in the order of names; raises `error` where it cannot be listed."""
    with path_errors(path, error):
        return sorted(Path(path).iterdir())


def read_bytes(path: str | Path, error: type[DatanasError]) -> bytes:
    """The content of a file; raises `error` where it cannot be read."""
    with path_errors(path, error):
        return Path(path).read_bytes()


def read_text(path: str | Path, error: type[DatanasError]) -> str:
    """The text of a file in UTF-8, without a byte order mark; raises `error` where it cannot be read or is no text."""
    data = read_bytes(path, error)
    if data.startswith(_OTHER_TEXTS):
        raise error(f"{shown(path)}: text in UTF-16 or UTF-32, as its byte order mark says; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{shown(path)}: not text in UTF-8: byte {fault.start} is {data[fault.start]:#04x}") from None


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; an empty one where there is none or it cannot be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
