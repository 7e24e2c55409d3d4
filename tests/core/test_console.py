"""Lines for people are shown where they can be, and end nothing where they cannot."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from datanas.core.console import Forgiving, Silence, answering, is_terminal, is_usable, say, telling
from datanas.core.errors import StorageError


class WriteAndFlushOnly:
    """A logger in place of a stream."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


class Failing(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def isatty(self) -> bool:
        raise self.error


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def in_encoding(name: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=name, errors="strict")


def content(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue()


BROKEN: dict[str, Callable[[], Any]] = {
    "missing": lambda: None,
    "closed": closed,
    "full": lambda: Failing(OSError(errno.ENOSPC, "No space left on device")),
    "gone": lambda: Failing(BrokenPipeError()),
    "odd": lambda: Failing(ValueError("underlying buffer has been detached")),
    "no stream": object,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_line_that_cannot_be_printed_ends_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", BROKEN[kind]())
    say("line")
    assert not is_usable(sys.stderr)
    assert not is_terminal(sys.stderr)


def test_a_line_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("line")
    assert capsys.readouterr().err == "line\n"


def test_a_stream_that_only_writes_will_do() -> None:
    stream: Any = WriteAndFlushOnly()
    say("line", stream)
    assert stream.text == "line\n"
    assert is_usable(stream)
    assert not is_terminal(stream)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_letters_that_an_encoding_lacks_become_escapes(encoding: str) -> None:
    stream = in_encoding(encoding)
    say("class 猫 is found", stream)
    assert content(stream) == b"class \\u732b is found\n"


def test_other_letters_stay() -> None:
    stream = in_encoding("utf-8")
    say("class 猫", stream)
    assert content(stream).decode() == "class 猫\n"


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind != "missing"])
def test_a_forgiving_stream_raises_nothing(kind: str) -> None:
    stream = Forgiving(BROKEN[kind]())
    assert stream.write("text") == 4
    stream.flush()
    assert not stream.isatty()


def test_an_answer_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", BROKEN["full"]())
    with pytest.raises(StorageError, match="standard output cannot be written: No space left"), answering():
        print("answer")


def test_an_answer_that_nobody_reads_to_its_end_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", BROKEN["gone"]())
    with pytest.raises(BrokenPipeError), answering():
        print("answer")


@pytest.mark.parametrize("kind", ["missing", "closed"])
def test_without_a_standard_output_an_answer_is_lost_in_silence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = BROKEN[kind]()
    monkeypatch.setattr(sys, "stdout", stream)
    with answering():
        print("answer")
    assert sys.stdout is stream


def test_an_answer_shows_letters_that_the_encoding_lacks_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = in_encoding("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with answering():
        print("猫")
    assert content(stream) == b"\\u732b\n"


def test_what_fails_while_telling_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with telling("the run is complete in runs/a"):
        raise KeyError("font")
    assert capsys.readouterr().err == "warning: the run is complete in runs/a, but cannot be told in full: 'font'\n"


def test_silence_is_a_stream() -> None:
    print("text", file=Silence())
    assert is_usable(Silence())
