"""SIGTERM and SIGINT, once and twice."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.faults.trial import Outcome, Tally, differences, points_of

from datanas.runs.checkpoint import latest_step, load_checkpoint

Command = Callable[..., Outcome]
SIGNALS = pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)


@SIGNALS
@pytest.mark.parametrize("kind", ["search", "train"])
@pytest.mark.parametrize(
    "step", [pytest.param(each, marks=[] if each in (1, 6, 8) else pytest.mark.complete) for each in range(1, 12)]
)
def test_one_finishes_the_step_and_saves(
    signum: int,
    code: int,
    kind: str,
    step: int,
    command: Command,
    arguments: list[str],
    reference: Mapping[str, Path],
    tmp_path: Path,
    tally: Tally,
) -> None:
    given = [kind, *([reference["search"]] if kind == "train" else []), *arguments]
    stopped = command(*given, signal_after_step=[step, int(signum)])
    run = tmp_path / "run"
    assert (stopped.code, latest_step(run)) == (code, step), stopped.err
    assert f"interrupted at step {step}/12; the state is saved" in stopped.err
    again = command(*given)
    found = differences(run, reference[kind])
    tally("3. SIGTERM or SIGINT", again.code == 0 and not found, (again.err, found))


@SIGNALS
def test_two_end_it_at_once(
    signum: int,
    code: int,
    command: Command,
    begun: Callable[..., Path],
    reference: Mapping[str, Path],
    tmp_path: Path,
    tally: Tally,
    request: pytest.FixtureRequest,
) -> None:
    run = begun()
    # With one to keep, the save removes an older checkpoint too.
    resume = ["search", "--quiet", "--resume", run, "--run.keep", 1]
    points = points_of(command, *resume, place="save", tmp_path=tmp_path)
    every = 1 if request.config.getoption("complete") else 20
    for point in range(2, len(points) + 1, every):
        shutil.rmtree(run)
        begun()
        stopped = command(*resume, signal_at_point=["save", point, int(signum)])
        assert stopped.code == code, (points[point - 1], stopped.err)
        assert stopped.err == "error: interrupted\n"
        step, _ = load_checkpoint(run)
        again = command("search", "--quiet", "--resume", run)
        found = differences(run, reference["search"])
        survived = step in (9, 12) and again.code == 0 and not found
        tally("3. a second signal inside a save", survived, (points[point - 1], again.err, found))
