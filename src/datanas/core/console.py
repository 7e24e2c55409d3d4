"""Lines for people: shown where they can be, and never the end of a run where they cannot.

A stream may be missing (pythonw, a service), closed, of a full device, without what files have, or of an encoding that
lacks the letters of a class. What was computed and saved must outlive all of that.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import TextIOBase
from typing import Any, TextIO, cast

from datanas.core.errors import StorageError


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line on `stream`, by default standard error; silent where it cannot be printed."""
    stream = sys.stderr if stream is None else stream
    if stream is not None:
        _write(stream, f"{line}\n")
        _flush(stream)


def silent(line: str) -> None:
    """In place of `say` where nothing is to be said."""


def is_usable(stream: Any) -> bool:
    """Whether a stream takes text at all."""
    if stream is None or getattr(stream, "closed", False):
        return False
    try:
        stream.write("")
    except Exception:
        return False
    return True


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; one that cannot tell is none."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


class Silence(TextIOBase):
    """A stream that nobody hears, in place of one that is closed."""

    def write(self, text: str) -> int:
        return len(text)


class Forgiving:
    """A stream that shows what it can: letters that it lacks as escapes, and nothing where it fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written; all of it counts as written."""
        _write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        _flush(self._stream)

    def isatty(self) -> bool:
        """Whether this is a terminal."""
        return is_terminal(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Answers(Forgiving):
    """As `Forgiving`, save that a device that is full or gone is an error: an answer is what was asked for."""

    def write(self, text: str) -> int:
        with _output_errors(self._stream):
            self._stream.write(_shown(text, self._stream))
        return len(text)

    def flush(self) -> None:
        with _output_errors(self._stream):
            self._stream.flush()


@contextmanager
def answering() -> Iterator[None]:
    """Run a block that prints an answer on standard output; letters that it lacks are shown as escapes.

    Raises:
        StorageError: standard output cannot be written.
        BrokenPipeError: whoever reads it has heard enough.
    """
    stream = sys.stdout
    if stream is None or getattr(stream, "closed", False):
        with redirect_stdout(cast(TextIO, Silence())):
            yield
        return
    answers = _Answers(stream)
    with redirect_stdout(cast(TextIO, answers)):
        yield
        answers.flush()


class _Notices(logging.Handler):
    """Says what the package's modules notice, the same once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            say(f"warning: {message}")


@contextmanager
def notices() -> Iterator[None]:
    """Run a command whose modules log what they notice: each notice is a line for people, once."""
    logger, handler = logging.getLogger("datanas"), _Notices()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def telling(about: str) -> Iterator[None]:
    """Run a block that only tells of work that is done and saved: what fails in it becomes a warning.

    Args:
        about: what is done, and where it is ("the search is complete in runs/a").
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except Exception as error:
        say(f"warning: {about}, but cannot be told in full: {str(error) or type(error).__name__}")


@contextmanager
def _output_errors(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        mute(stream)
        raise StorageError(f"standard output cannot be written: {error.strerror or error}") from None
    except ValueError:
        if not getattr(stream, "closed", False):
            raise


def mute(stream: Any) -> None:
    """Let a stream of this process that fails lead nowhere: what its buffer holds would fail again at the end."""
    with suppress(Exception):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _write(stream: TextIO, text: str) -> None:
    with suppress(Exception):
        stream.write(_shown(text, stream))


def _flush(stream: TextIO) -> None:
    with suppress(Exception):
        stream.flush()


def _shown(text: str, stream: TextIO) -> str:
    """`text` with what the encoding of the stream lacks as escapes."""
    encoding = getattr(stream, "encoding", None)
    if not isinstance(encoding, str):  # it takes text as it is
        return text
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except (LookupError, UnicodeError):
        return text.encode("ascii", "backslashreplace").decode()
