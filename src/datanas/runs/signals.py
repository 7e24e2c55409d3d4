"""Stopping a run between two steps, with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StoppedAtOnce(KeyboardInterrupt):
    """A second signal; nothing more is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class StopRequest:
    """While entered, SIGINT and SIGTERM only set a flag; the second one raises StoppedAtOnce, or kills.

    Args:
        kills: leave a second signal to the system, which ends the process wherever it is; an exception would wait until
            the process hears from others that it waits for.

    It is true once a signal has come. Outside the main thread, where Python allows no handlers, it stays false. A
    signal that the process was started to ignore stays ignored.
    """

    def __init__(self, *, kills: bool = False) -> None:
        self.signum: int | None = None
        self._kills = kills
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 128 + the signal's number; 0 where none came."""
        return 0 if self.signum is None else 128 + self.signum

    def __bool__(self) -> bool:
        return self.signum is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for wanted in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(wanted)
                if before not in (signal.SIG_IGN, None):
                    self._before[wanted] = before
                    signal.signal(wanted, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for wanted, before in self._before.items():
            signal.signal(wanted, before)
        self._before.clear()

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise StoppedAtOnce(signum)
        self.signum = signum
        if self._kills:
            for wanted in self._before:
                signal.signal(wanted, signal.SIG_DFL)
