from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from datanas.core.atomic import open_atomic, remove_leftovers, storage_errors, write_atomic
from datanas.core.errors import StorageError


def test_writes_the_content_and_makes_the_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path / "a" / "b") == ["file"]


def test_a_file_that_is_written_bit_by_bit_stands_only_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    with open_atomic(file) as opened:
        opened.write(b"one")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), open_atomic(file) as opened:
        opened.write(bytes([1 // 0]))
    assert [each.read_bytes() for each in file.parent.iterdir()] == [b"one"]


def test_a_failing_replace_leaves_the_old_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match=r"file: cannot be written: No space left.*free some space"):
        write_atomic(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_write_that_the_system_cuts_short_leaves_the_old_content_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            write_atomic(tmp_path / "file", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_in_the_place_of_the_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="inner"):
        write_atomic(tmp_path / "file" / "inner", b"")


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [f".a.{dead.pid}.tmp", f"deep/.b.json.{dead.pid}.tmp"]
    kept = [f".a.{os.getppid()}.tmp", f"a.{dead.pid}.tmp", f".a.{dead.pid}", ".a.tmp", f".a.{10**30}.tmp", "a"]
    (tmp_path / "deep").mkdir()
    for name in gone + kept:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_storage_error_has_exit_code_6_and_names_the_path_once(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path), storage_errors(tmp_path / "inner"):
        raise OSError(number, os.strerror(number))
    assert caught.value.exit_code == 6
    assert str(caught.value).startswith(f"{tmp_path / 'inner'}: cannot be written: {os.strerror(number)}")
    assert str(caught.value).count(str(tmp_path)) == 1
