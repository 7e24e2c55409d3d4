"""Storage that is full, read-only, or fails for the log alone; and several processes for one folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.faults.trial import Outcome, Started, Tally, differences

from datanas.runs.checkpoint import latest_step, load_checkpoint

Command = Callable[..., Outcome]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        reason = done.stderr.strip()
    except OSError as error:
        done, reason = None, str(error)
    if done is None or done.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {reason}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("step", [4, 7])
@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_full_disk(
    step: int,
    kind: str,
    disk: Path,
    command: Command,
    tiny: Callable[..., list[str]],
    reference: Mapping[str, Path],
    tally: Tally,
) -> None:
    given = [kind, *([reference["search"]] if kind == "train" else []), *tiny(disk)]
    outcome = command(*given, fill_disk=[step, str(disk)])
    run = disk / "run"
    assert outcome.code == 6, outcome.err
    assert "cannot be written: No space left on device; free some space there" in outcome.err
    assert load_checkpoint(run)[0] == 3 * (step // 3)
    (disk / "ballast").unlink()
    again = command(*given)
    found = differences(run, reference[kind])
    tally("10. a full disk", again.code == 0 and not found, (again.err, found))


def test_a_disk_that_is_full_from_the_start(
    disk: Path, command: Command, tiny: Callable[..., list[str]], tally: Tally
) -> None:
    (disk / "ballast").write_bytes(bytes(4 * 1024))
    with open(disk / "more", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    outcome = command("search", *tiny(disk))
    left = sorted(path.name for path in disk.iterdir())
    tally("10. a full disk", outcome.code == 6 and left == ["ballast", "more"], (outcome.err, left))


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_folder_that_turns_read_only(
    kind: str,
    disk: Path,
    command: Command,
    tiny: Callable[..., list[str]],
    reference: Mapping[str, Path],
    tally: Tally,
) -> None:
    given = [kind, *([reference["search"]] if kind == "train" else []), *tiny(disk)]
    outcome = command(*given, read_only_after_step=[7, str(disk)])
    assert outcome.code == 6, outcome.err
    assert "Read-only file system; choose a folder that can be written" in outcome.err
    assert latest_step(disk / "run") == 6
    subprocess.run(["umount", str(disk)], check=True)
    again = command(*given)
    found = differences(disk / "run", reference[kind])
    tally("10. a folder that turns read-only", again.code == 0 and not found, (again.err, found))


def test_only_the_log_fails(
    command: Command, arguments: list[str], reference: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    outcome = command("search", *arguments, no_events=True)
    found = differences(tmp_path / "run", reference["search"])
    is_told = outcome.err.count("warning: ") == 1 and "no more goes to TensorBoard's file" in outcome.err
    tally("10. only logging fails: a warning", outcome.code == 0 and is_told and not found, (outcome.err, found))


def test_ten_race_for_one_folder(
    begin: Callable[..., Started], arguments: list[str], reference: Mapping[str, Path], tmp_path: Path, tally: Tally
) -> None:
    signs = [tmp_path / f"in-step-{index}" for index in range(10)]
    go = tmp_path / "go"
    racers = [begin("search", *arguments, wait_in_step=[2, str(sign), str(go)]) for sign in signs]
    waiting = list(racers)
    # The winner waits in its second step until all others have ended.
    while len(waiting) > 1:
        ended = [each for each in waiting if not each.process.is_alive()]
        waiting = [each for each in waiting if each not in ended]
        assert waiting, "nobody won"
        if not ended:
            waiting[0].process.join(0.05)
    (winner,) = waiting
    go.touch()
    outcomes = {each.pid: each.end() for each in racers}
    won = outcomes.pop(winner.pid)
    survived = (
        won.code == 0
        and {outcome.code for outcome in outcomes.values()} == {7}
        and all(f"is in use by process {winner.pid} on {os.uname().nodename}" in each.err for each in outcomes.values())
        and not differences(tmp_path / "run", reference["search"])
    )
    tally("16. ten processes, one folder: one winner", survived, (won.err, [each.err for each in outcomes.values()]))
