"""Runs of `datanas.comparison.pool` that are made in this process, for tests of what starts them."""

from __future__ import annotations

import signal
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from datanas.cli import main
from datanas.comparison.pool import Command


class Ended:
    """A run that is over as soon as it is started."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        pass

    def wait(self) -> int:
        return self.returncode


class Inside:
    """Makes the runs in this process, and keeps their names."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stop_after: int | None = None

    def start(self, command: Command, threads: int) -> Any:
        self.started.append(command.name)
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
            code = main(command.arguments)
        if len(self.started) == self.stop_after:
            signal.raise_signal(signal.SIGTERM)
        return Ended(code)
