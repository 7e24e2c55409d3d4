from __future__ import annotations

import os
from pathlib import Path

import pytest

from datanas.core.errors import ArchitectureError, CheckpointError, ConfigError, DataError
from datanas.core.paths import is_file, is_folder, read_bytes, read_text, require_file, require_folder, shown


def test_a_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    assert is_file(file, DataError)
    assert not is_folder(file, DataError)
    assert is_folder(tmp_path, DataError)
    assert not is_file(tmp_path / "b", DataError)


@pytest.mark.parametrize("error", [ConfigError, ArchitectureError, CheckpointError, DataError])
def test_a_name_that_is_too_long_is_the_callers_error(error: type[Exception]) -> None:
    with pytest.raises(error, match=r"x\.\.\.: File name too long"):
        is_file("x" * 300, error)  # type: ignore[arg-type]


def test_a_name_with_a_null_character_is_no_file() -> None:
    assert not is_file("a\0b", DataError)
    with pytest.raises(DataError, match="no path"):
        read_bytes("a\0b", DataError)


def test_links_in_a_circle_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="a: Too many levels of symbolic links"):
        read_bytes(tmp_path / "a", DataError)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="everything may be read here")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(ConfigError, match="Permission denied"):
        is_file(closed / "recipe.yaml", ConfigError)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffsky\r\n".encode())
    assert read_text(file, DataError) == "sky\r\n"


def test_bytes_that_are_no_text_are_told_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"ab\xff")
    with pytest.raises(DataError, match=r"not text in UTF-8: byte 2 is 0xff"):
        read_text(file, DataError)


def test_a_long_path_is_cut_and_stays_on_one_line() -> None:
    assert shown("a\nb") == "a b"
    assert len(shown("a" * 500)) < 130


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_in_another_unicode_is_told_by_name(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("sky".encode(encoding))
    with pytest.raises(DataError, match="text in UTF-16 or UTF-32"):
        read_text(file, DataError)


def test_what_is_not_the_folder_or_file_that_is_needed_is_told_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    require_folder(tmp_path, DataError)
    require_file(file, DataError)
    for path, message in [
        (file, "a: is a file; a folder is needed"),
        (file / "b", "no such folder: Not a directory"),
        (tmp_path / "none", "none: no such folder$"),
        (tmp_path / "gone", "a link that leads nowhere"),
        (tmp_path / ("x" * 300), "File name too long"),
    ]:
        with pytest.raises(DataError, match=message):
            require_folder(path, DataError)
    with pytest.raises(DataError, match="no such file; it is a folder"):
        require_file(tmp_path, DataError)
    with pytest.raises(DataError, match="my data: no such file"):
        require_file(tmp_path / "none", DataError, "my data")


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        require_folder(tmp_path, DataError)
