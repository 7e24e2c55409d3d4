"""Runs in processes of their own, a few at a time; each goes on where an earlier attempt stopped."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datanas.core.errors import Interrupted
from datanas.runs.signals import StopRequest

_POLL = 0.1  # seconds
_PROMPT = "$ datanas "
_LAST_WORDS = 300  # characters of a message


@dataclass(frozen=True)
class Command:
    """A run.

    Attributes:
        name: for people.
        arguments: of the command `datanas`.
        done: the file that the run writes last.
        log: where its output goes.
    """

    name: str
    arguments: tuple[str, ...]
    done: Path
    log: Path


def run_all(
    commands: Sequence[Command], workers: int, threads: int, say: Callable[[str], None] = lambda line: None
) -> dict[str, str]:
    """Run what is not done yet, in order, and return the last words of what failed, by name.

    Args:
        workers: how many run at a time.
        threads: CPU threads of each.
        say: takes a line of progress.

    Raises:
        Interrupted: a signal came; every run was told to save its state and has ended.
    """
    waiting = [command for command in commands if not command.done.is_file()]
    total, failed = len(waiting), {}
    running: dict[subprocess.Popen[bytes], Command] = {}
    began = time.monotonic()
    with StopRequest() as stop:
        try:
            while waiting or running:
                while waiting and len(running) < workers and not stop:
                    command = waiting.pop(0)
                    running[_start(command, threads)] = command
                for process in [each for each in running if each.poll() is not None]:
                    command = running.pop(process)
                    ended = total - len(waiting) - len(running)
                    if process.returncode != 0 or not command.done.is_file():
                        failed[command.name] = _last_words(command.log, process.returncode)
                    left = (time.monotonic() - began) / ended * (total - ended)
                    state = f"failed: {failed[command.name]}" if command.name in failed else "done"
                    say(f"{ended}/{total}  {command.name} {state}  (about {_clock(left)} left)")
                if stop:
                    break
                time.sleep(_POLL)
        finally:
            for process in running:
                with suppress(ProcessLookupError):
                    process.terminate()
            for process in running:
                process.wait()
        if stop:
            assert stop.signum is not None
            raise Interrupted("interrupted; every run has saved its state", stop.signum)
    return failed


def _start(command: Command, threads: int) -> subprocess.Popen[bytes]:
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        log.write(f"{_PROMPT}{' '.join(shlex.join(command.arguments).split())}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", "datanas", *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # a Ctrl-C is passed on, once
        )


def _last_words(log: Path, code: int) -> str:
    """The first error of the last attempt, or else its last line."""
    attempt = f"\n{log.read_text(errors='replace')}".rpartition(f"\n{_PROMPT}")[2]
    lines = [line for line in attempt.splitlines()[1:] if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    words = errors[0].removeprefix("error: ") if errors else (lines or [""])[-1]
    return f"exit code {code}: {words[:_LAST_WORDS]}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
