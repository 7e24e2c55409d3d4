"""The folder that one run owns: made whole, locked, and written file by file without half-written states."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

from datanas.core.atomic import remove_leftovers, storage_errors, write_atomic
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.paths import shown
from datanas.runs.environment import environment
from datanas.runs.lock import LOCK_FILE, Lock
from datanas.runs.metrics import decode, encode


class RunFolder:
    """A run folder that this process has locked; made by `create` or `open`, let go by `close` or `with`."""

    def __init__(self, path: Path, lock: Lock, made: Iterable[Path] | None) -> None:
        self.path = path
        self._lock = lock
        # The folders that `create` made, innermost first; None where the run was there before.
        self._made = None if made is None else list(made)

    @classmethod
    def create(cls, root: Path, name: str | None, kind: str) -> RunFolder:
        """Make root/name, root included, and lock it.

        Args:
            root: the folder of all runs.
            name: the run's; None for `kind`-date-time, with a number behind it where that is taken.
            kind: what the run does ("search"), for the name.

        Raises:
            ConfigError: `name` is no folder name, or it is taken.
            RunInUseError: another process is just making the same run.
            StorageError: the folder cannot be written; nothing is left of it.
        """
        if name is not None and (Path(name).name != name or name in ("", "..")):
            raise ConfigError(f"run.name: must be the name of one folder, got {name!r}")
        made = [folder for folder in (root, *root.parents) if not folder.exists()]
        with storage_errors(root):
            try:
                root.mkdir(parents=True, exist_ok=True)
                path, is_new = _make(root, name, kind)
                made = [path, *made] if is_new else made
                lock = Lock(path / LOCK_FILE)
            except OSError:
                _remove_empty(made)
                raise
        if _is_taken(path):
            lock.release()
            raise _taken(path)
        remove_leftovers(path)
        return cls(path, lock, made)

    @staticmethod
    def require_free(root: Path, name: str | None) -> None:
        """Fail now where `create` would fail later because the name is taken; makes nothing.

        Raises:
            ConfigError: root/name is there and is not empty.
        """
        if name is not None and (root / name).exists() and _is_taken(root / name):
            raise _taken(root / name)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Lock a run that exists, to go on with it.

        Raises:
            CheckpointError: `path` holds no run.
            RunInUseError: another process holds it.
            StorageError: the folder cannot be written.
        """
        if not (path / "config.yaml").is_file():
            raise CheckpointError(f"not a run folder: no config.yaml in {path}")
        lock = Lock(path / LOCK_FILE)
        remove_leftovers(path)
        return cls(path, lock, None)

    @property
    def architecture_path(self) -> Path:
        """Where the architecture that the run found is written."""
        return self.path / "architecture.json"

    def genotype_path(self, epoch: int) -> Path:
        """Where the architecture after an epoch is written."""
        return self.path / "genotypes" / f"epoch-{epoch:04d}.json"

    def write_text(self, relative: str | Path, text: str) -> None:
        """Write a file of the run, whole or not at all.

        Raises:
            StorageError: it cannot be written; what stood there before still does.
        """
        write_atomic(self.path / relative, text.encode())

    def write_json(self, relative: str | Path, data: object) -> None:
        """Write plain data as indented JSON, floats that are not finite as the strings "nan", "inf" and "-inf".

        Raises:
            StorageError: it cannot be written; what stood there before still does.
            TypeError: `data` holds something that JSON cannot.
        """
        self.write_text(relative, json.dumps(encode(data), indent=2, allow_nan=False) + "\n")

    def write_bytes(self, relative: str | Path, data: bytes) -> None:
        """The same with bytes."""
        write_atomic(self.path / relative, data)

    def settle(self, files: Mapping[str, str], kind: str) -> None:
        """Write env.json and the first files of a new run; with the last, config.yaml, `open` takes it for one.

        Raises:
            StorageError: they cannot be written; nothing is left of the folder.
        """
        try:
            self.write_env(kind)
            for name, text in files.items():
                self.write_text(name, text)
        except BaseException:
            self.discard()
            raise

    def write_env(self, kind: str, note: Mapping[str, object] | None = None) -> None:
        """Write env.json; a run that goes on keeps what it says and adds this process, with `note`, to `resumed`."""
        env: dict[str, object] = {"kind": kind, **environment()}
        first = self._env()
        if note is not None and first:
            env = {**first, "resumed": [*first.get("resumed", []), {**env, **note}]}
        self.write_json("env.json", env)

    def require_kind(self, kind: str, advice: str = "") -> None:
        """Make sure that an earlier process began a run of this kind here, as far as it says.

        Args:
            advice: to end the message with.

        Raises:
            CheckpointError: it was another.
        """
        actual = self._env().get("kind", kind)
        if actual != kind:
            self.close()
            raise CheckpointError(f"{self.path}: a {kind} run is needed, this is a {actual} run{advice}")

    def _env(self) -> dict[str, Any]:
        try:
            document = json.loads((self.path / "env.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        is_sound = isinstance(document, dict) and isinstance(document.get("resumed", []), list)
        return document if is_sound else {}

    def discard(self) -> None:
        """Remove what `create` made and let go; an opened run is only let go.

        For a setup that fails, so that bad input leaves no run behind.
        """
        if self._made is not None and self._lock.is_held:
            with suppress(OSError):
                for entry in self.path.iterdir():
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry, ignore_errors=True)
                    else:
                        entry.unlink(missing_ok=True)
            _remove_empty(self._made)
        self.close()

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_json(file: Path) -> Any:
    """What a run has written as JSON (`RunFolder.write_json`).

    Raises:
        CheckpointError: it is not there or cannot be read.
    """
    try:
        return decode(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{shown(file)}: cannot be read: {error}") from None


def _make(root: Path, name: str | None, kind: str) -> tuple[Path, bool]:
    """The run's folder, and whether it is new: an empty one with the given name will do."""
    stem = name or f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    for candidate in chain([stem], (f"{stem}-{number}" for number in count(2))):
        path = root / candidate
        try:
            path.mkdir()
        except FileExistsError:
            if name is None:
                continue
            if not path.is_dir() or (_is_taken(path) and not (path / LOCK_FILE).exists()):
                raise _taken(path) from None
            return path, False
        return path, True
    raise AssertionError("count() has no end")


def _is_taken(path: Path) -> bool:
    """Whether `path` holds more than what a process that was killed while it set up has left."""
    return not path.is_dir() or not all(_is_leftover(entry.name) for entry in path.iterdir())


def _is_leftover(name: str) -> bool:
    first = (LOCK_FILE, "env.json", "data.json", "architecture.json", "request.json", "plan.json", "clock.json")
    return name in first or (name.startswith(".") and name.endswith(".tmp"))


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"run.name: {path} is there already; go on with --resume {path}, or choose another --run.name")


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            os.rmdir(folder)
