"""What the fault tests share: a process under way, how it ended, what two runs differ in, and the count of trials."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datanas.runs import read_metrics

LIMIT = 120
"""Seconds after which a process that should end counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code (negative: the signal that killed it) and what it said."""

    code: int
    out: str
    err: str


class Started:
    """A command under way."""

    def __init__(self, process: Any, output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def end(self, limit: float = LIMIT) -> Outcome:
        """Wait for its end.

        Raises:
            AssertionError: it hangs.
        """
        self.process.join(limit)
        hangs = self.process.is_alive()
        if hangs:
            self.process.kill()
            self.process.join()
        texts = [Path(f"{self._output}.{name}") for name in ("out", "err")]
        out, err = (text.read_text() if text.exists() else "" for text in texts)
        assert not hangs, f"hangs after {limit} s:\n{err}"
        return Outcome(int(self.process.exitcode), out, err)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def as_torchrun_would(processes: int) -> list[dict[str, str]]:
    """The environment of each of the processes of one run."""
    port = free_port()
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
            "OMP_NUM_THREADS": "1",
        }
        for rank in range(processes)
    ]


def differences(run: Path, other: Path) -> list[str]:
    """In what two finished runs differ; nothing where they are the same bit for bit, times apart."""
    found = []
    first, second = (
        [{name: value for name, value in line.items() if name != "time"} for line in read_metrics(path)]
        for path in (run, other)
    )
    if first != second:
        found.append("metrics")
    last = max(path.name for path in (other / "checkpoints").iterdir())
    files = [f"checkpoints/{last}/{name}" for name in ("state.safetensors", "state.json")]
    files += ["architecture.json", "network.safetensors", "evaluation.json"]
    files += [str(path.relative_to(other)) for path in sorted(other.glob("genotypes/*"))]
    for file in files:
        contents = [(path / file).read_bytes() if (path / file).exists() else None for path in (run, other)]
        if contents[0] != contents[1]:
            found.append(file)
    if stray := [str(path) for path in run.rglob("*.tmp")]:
        found.append(f"left behind: {stray}")
    return found


def points_of(command: Callable[..., Outcome], *arguments: object, place: str, tmp_path: Path) -> list[str]:
    """The points of storage work that a command passes in a place (`watch_storage` of faulty.py), by name."""
    file = tmp_path / "points"
    outcome = command(*arguments, list_points=[place, str(file)])
    assert outcome.code == 0, outcome.err
    return file.read_text().splitlines()


class Tally:
    """How often a fault was tried and survived."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    def __call__(self, fault: str, survived: bool, message: object = "") -> None:
        """Count one trial.

        Raises:
            AssertionError: it was not survived.
        """
        self._record("fault", [fault, bool(survived)])
        assert survived, message
