"""A search and a training on a text: what is carried from batch to batch, and the average that begins on its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.faults.trial import Outcome, Tally, differences

from datanas.runs import read_metrics
from datanas.runs.checkpoint import latest_step

Command = Callable[..., Outcome]
Two = Callable[..., tuple[Outcome, Outcome]]
Reference = Mapping[str, Path]
COMPLETE = pytest.mark.complete
pytestmark = pytest.mark.parametrize("domain", ["language"], indirect=True)

# Checkpoints are written after every step, epochs have three, and averaging begins after the ninth.
BEFORE, AFTER = 8, 11
CASES = [
    pytest.param(kind, step, marks=[] if (kind, step) in short else COMPLETE, id=f"{kind}-{step}")
    for short in [{("search", 8), ("train", BEFORE), ("train", AFTER)}]
    for kind in ("search", "train")
    for step in range(1, 13)
]


def given(kind: str, arguments: list[str], found: Reference) -> list[object]:
    """The command of a search, or of a training of what the undisturbed search has found."""
    return [kind, *([found["search"]] if kind == "train" else []), *arguments]


def require_average(run: Path) -> None:
    """Skip where, as this processor rounds, no epoch is worse than those before, so that nothing is averaged."""
    if not any(line["averaging"] for line in read_metrics(run)):
        pytest.skip("on this processor the third epoch is no worse than the first, and nothing is averaged")


def test_averaging_begins_after_the_third_epoch(reference: Reference, pair: Reference) -> None:
    """What the tests below rest on."""
    for runs in (reference, pair):
        lines = read_metrics(runs["train"])
        assert [line["step"] for line in lines] == [3, 6, 9, 12]
        require_average(runs["train"])
        assert [line["averaging"] for line in lines] == [0, 0, 0, 1]


@pytest.mark.parametrize(("kind", "step"), CASES)
def test_killed(
    kind: str, step: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    run, words = tmp_path / "run", given(kind, arguments, reference)
    killed = command(*words, kill_after_step=step)
    assert killed.code == -signal.SIGKILL, killed.err
    assert latest_step(run) == (step - 1 or None)
    again = command(*words)
    found = differences(run, reference[kind])
    number = 1 if kind == "search" else 5
    tally(f"{number}. SIGKILL after a step of a {kind} on a text", again.code == 0 and not found, (again.err, found))


@pytest.mark.parametrize(("kind", "step"), CASES)
def test_stopped(
    kind: str, step: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    if step == 12:
        pytest.skip("nothing is left to stop")
    run, words = tmp_path / "run", given(kind, arguments, reference)
    stopped = command(*words, signal_after_step=[step, int(signal.SIGTERM)])
    assert (stopped.code, latest_step(run)) == (143, step), stopped.err
    again = command(kind, "--quiet", "--resume", run)
    found = differences(run, reference[kind])
    tally("3. SIGTERM or SIGINT, on a text", again.code == 0 and not found, (again.err, found))


@pytest.mark.parametrize(
    ("kind", "key", "step"),
    [("search", "task", 8), ("train", "task", 8), ("train", "history", 8), ("train", "average", 11)],
)
def test_a_state_without_one_of_its_keys_is_found(
    kind: str, key: str, step: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path
) -> None:
    """Negative control."""
    if key == "average":
        require_average(reference["train"])
    words = given(kind, arguments, reference)
    assert command(*words, signal_after_step=[step, int(signal.SIGTERM)]).code == 143
    assert command(*words, forget=key).code == 0
    assert differences(tmp_path / "run", reference[kind])


@pytest.mark.parametrize(
    ("kind", "step"), [("search", 8), ("train", AFTER), pytest.param("train", BEFORE, marks=COMPLETE)]
)
def test_two_that_are_stopped(
    kind: str, step: int, two: Two, arguments: list[str], pair: Reference, tmp_path: Path, tally: Tally
) -> None:
    run, words = tmp_path / "run", given(kind, arguments, pair)
    stopped = two(*words, faults={1: {"signal_after_step": [step, int(signal.SIGTERM)]}})
    assert [each.code for each in stopped] == [143, 143], stopped
    assert latest_step(run) == step
    again = two(*words)
    found = differences(run, pair[kind])
    survived = [each.code for each in again] == [0, 0] and not found
    tally("3. a signal to one of two processes, on a text", survived, (again, found))


@COMPLETE
@pytest.mark.parametrize("kind", ["search", "train"])
def test_devices_starts_the_others_itself(kind: str, arguments: list[str], pair: Reference, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "datanas", *map(str, given(kind, arguments, pair)), "--devices", "2"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "run", pair[kind]) == []
