"""The errors that users see. Each knows the exit code of the command line (DESIGN, "Exit codes")."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class DatanasError(Exception):
    """Something that the user can mend; its text is the whole message."""

    exit_code: int = 1


class ConfigError(DatanasError, ValueError):
    """Bad usage or configuration."""

    exit_code = 2


class ArchitectureError(DatanasError, ValueError):
    """An architecture file or text that cannot be read or rebuilt."""

    exit_code = 3


class CheckpointError(DatanasError):
    """A checkpoint that is missing, damaged or of another run."""

    exit_code = 3


class NonFiniteError(DatanasError, ArithmeticError):
    """A loss, gradient or alpha that is not finite; raised before the update that would use it."""

    exit_code = 4


class OutOfMemoryError(DatanasError, MemoryError):
    """The device or the host ran out of memory."""

    exit_code = 5


class StorageError(DatanasError, OSError):
    """The run folder cannot be written."""

    exit_code = 6


class RunInUseError(DatanasError):
    """Another process holds the run folder."""

    exit_code = 7


class DataError(DatanasError, ValueError):
    """Missing, broken or unsuitable data."""

    exit_code = 8


class Interrupted(BaseException):
    """A run that a signal stopped between two steps, with its state saved.

    Like Python's own KeyboardInterrupt, which it is too where the signal was SIGINT (Ctrl-C), it is no Exception:
    whoever sends a signal wants the program to end, not a loop of trials to go on with the next one.
    """

    exit_code: int

    def __new__(cls, message: str, signum: int) -> Interrupted:
        """The class that fits the signal."""
        return super().__new__(KeyboardInterrupted if signum == signal.SIGINT else cls, message, signum)

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum

    @property
    def signum(self) -> int:
        """The signal's number."""
        return self.exit_code - 128

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.signum)


class KeyboardInterrupted(Interrupted, KeyboardInterrupt):
    """A run that Ctrl-C stopped."""


class ProcessLostError(DatanasError):
    """Another process of the same run is gone, or has stopped with an error of its own."""


class EndedElsewhere(DatanasError):
    """Nothing is wrong in this process: the first one of its run ends with this exit code, and says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known spelling closest to `name`, or lists what is known."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
