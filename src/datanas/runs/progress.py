"""How far a run is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, cast

from datanas.core.console import Forgiving, Silence, is_terminal, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Shows steps done, rate, time and the figures of the moment on `stream`.

    Args:
        name: what is under way ("search").
        total: how many steps it takes.
        quiet: show nothing, messages included.
        done: the steps that an earlier process made; the rate leaves them out.
        interval: the least seconds between two plain lines; one more stands at the end.
        stream: where to; None for stderr.
        clock: seconds from any start.
    """

    def __init__(
        self,
        name: str,
        total: int,
        *,
        quiet: bool = False,
        done: int = 0,
        interval: float = 15.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.total = total
        self.done = done
        self._quiet = quiet
        self._done_before = done
        self._interval = interval
        stream = sys.stderr if stream is None else stream
        self._stream = cast(TextIO, Silence()) if stream is None else stream
        self._clock = clock
        self._started = self._last_line = clock()
        self._text = self._stage = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self._started = self._last_line = self._clock()
        if not self._quiet and _takes_bar(self._stream):
            with suppress(Exception):  # a terminal that is not what it says
                self._bar = _start_bar(self.name, self.total, self.done, cast(TextIO, Forgiving(self._stream)))
        return self

    def advance(self, steps: int = 1, text: str | None = None, stage: str | None = None) -> None:
        """Count steps.

        Args:
            steps: how many were made since the last call.
            text: the figures of the moment ("loss 1.23"); None keeps the last ones.
            stage: where the run is ("epoch 3/20"); None keeps the last one.
        """
        self.done += steps
        self._text = self._text if text is None else text
        self._stage = self._stage if stage is None else stage
        if self._bar is not None:
            task, figures = self._bar.task_ids[0], _join(*self._pace(), self._text)
            self._bar.update(task, total=self.total, completed=self.done, stage=self._stage, figures=figures)
        elif not self._quiet and self._clock() - self._last_line >= self._interval:
            self._last_line = self._clock()
            say(self._line(*self._pace()), self._stream)

    def message(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            say(line, self._stream)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet:
            rate, _ = self._pace()
            say(self._line(rate, f"elapsed {_duration(self._clock() - self._started)}"), self._stream)

    def _pace(self) -> tuple[str, str]:
        made, elapsed = self.done - self._done_before, self._clock() - self._started
        if made <= 0 or elapsed <= 0:
            return "", ""
        rate = made / elapsed
        return f"{rate:.1f} it/s", f"remaining {_duration(max(self.total - self.done, 0) / rate)}"

    def _line(self, *pace: str) -> str:
        return _join(self.name, self._stage, f"step {self.done}/{self.total}", *pace, self._text)


def _takes_bar(stream: TextIO) -> bool:
    """Whether a bar can be drawn: on a terminal, by one thread, since it takes standard output and error meanwhile."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and is_terminal(stream) and os.environ.get("TERM") != "dumb"


def _start_bar(name: str, total: int, done: int, stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(file=stream, force_terminal=True)
    bar = Bar(
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[stage]}", markup=False),
        BarColumn(bar_width=20 if console.width >= 110 else 6),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # The figures give way where the terminal is narrow, not the columns before them.
        TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
        console=console,
        expand=True,
    )
    bar.add_task(name, total=total, completed=done, stage="", figures="")
    bar.start()
    return bar


def _join(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
