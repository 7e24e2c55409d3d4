"""Runs in processes of their own; a package `datanas` that executes its first argument stands in for the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.comparison import pool
from datanas.comparison.pool import Command, run_all

Make = Callable[..., Command]
DONE = "open(sys.argv[2], 'w').close()"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH."""
    package = tmp_path_factory.mktemp("stand-in") / "datanas"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import os, signal, sys\nexec(sys.argv[1])\n")
    return package.parent


@pytest.fixture
def command(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A command that executes `code`, and then is done unless it says otherwise."""
    monkeypatch.setenv("PYTHONPATH", str(stand_in))
    monkeypatch.setattr(pool, "_POLL", 0.01)

    def make(name: str, code: str = "pass", *, finishes: bool = True) -> Command:
        done = tmp_path / "done" / name
        done.parent.mkdir(exist_ok=True)
        text = f"{code}\n{DONE if finishes else ''}"
        return Command(name, (text, str(done)), done, tmp_path / "logs" / "deep" / f"{name}.log")

    return make


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Each command that is started, with how many run at that time already."""
    found: list[tuple[str, int]] = []
    processes: list[Any] = []
    original = pool._start

    def start(given: Command, threads: int) -> Any:
        found.append((given.name, sum(process.poll() is None for process in processes)))
        processes.append(original(given, threads))
        return processes[-1]

    monkeypatch.setattr(pool, "_start", start)
    return found


def test_all_run_in_order(command: Make, started: list[tuple[str, int]]) -> None:
    commands = [command(name) for name in "cab"]
    assert run_all(commands, 1, 1) == {}
    assert started == [("c", 0), ("a", 0), ("b", 0)]
    assert all(each.done.is_file() for each in commands)


def test_as_many_run_at_a_time_as_there_are_workers(
    command: Make, started: list[tuple[str, int]], tmp_path: Path
) -> None:
    """The first two end only because both run: each opens one end of a pipe, which waits for the other end."""
    os.mkfifo(tmp_path / "pipe")
    ends = [f"open({str(tmp_path / 'pipe')!r}, {mode!r}).close()" for mode in "rw"]
    commands = [command(f"run{number}", code) for number, code in enumerate([*ends, "pass", "pass", "pass"])]
    assert run_all(commands, 2, 1) == {}
    assert [name for name, _ in started] == [f"run{number}" for number in range(5)]
    assert started[1] == ("run1", 1)
    assert max(running for _, running in started) == 1


def test_what_is_done_is_not_run_again(command: Make, started: list[tuple[str, int]]) -> None:
    commands = [command(name) for name in "abc"]
    commands[1].done.touch()
    said: list[str] = []
    assert run_all(commands, 1, 1, said.append) == {}
    assert [name for name, _ in started] == ["a", "c"]
    assert [line.split("  ")[:2] for line in said] == [["1/2", "a done"], ["2/2", "c done"]]
    assert run_all(commands, 1, 1) == {}
    assert len(started) == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('working'); print('error: the disk\\nis full', file=sys.stderr); sys.exit(6)", "exit code 6: the disk"),
        ("print('error: one\\nerror: please report it'); print('bye'); sys.exit(4)", "exit code 4: one"),
        ("print('last words\\n\\n'); sys.exit(1)", "exit code 1: last words"),
        ("sys.exit(3)", "exit code 3: "),
        ("os.kill(os.getpid(), signal.SIGKILL)", "exit code -9: "),
        ("print('x' * 999); sys.exit(1)", f"exit code 1: {'x' * 300}"),
        ("sys.stdout.buffer.write(b'caf\\xe9'); sys.exit(1)", "exit code 1: caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_failure_s_last_words(command: Make, code: str, words: str) -> None:
    said: list[str] = []
    failed = run_all([command("bad", code), command("good")], 1, 1, said.append)
    assert failed == {"bad": words}
    assert said[0].startswith(f"1/2  bad failed: {words}  (about 0:0")
    assert said[1].startswith("2/2  good done  (about 0:00:00 left)")


def test_a_run_without_its_last_file_has_failed(command: Make) -> None:
    assert run_all([command("half", "print('almost')", finishes=False)], 1, 1) == {"half": "exit code 0: almost"}


def test_a_failed_run_is_tried_again(command: Make, tmp_path: Path) -> None:
    """And its log goes on; the last words are those of the last attempt."""
    flag = tmp_path / "flag"
    code = f"f = open({str(flag)!r}, 'a+'); print('error:', f.tell()); f.write('x')\nif f.tell() < 3: sys.exit(1)"
    bad = command("bad", code)
    assert run_all([bad], 1, 1) == {"bad": "exit code 1: 0"}
    assert run_all([bad], 1, 1) == {"bad": "exit code 1: 1"}
    assert run_all([bad], 1, 1) == {}
    lines = bad.log.read_text().splitlines()
    assert [line for line in lines if line.startswith("error")] == ["error: 0", "error: 1", "error: 2"]
    assert sum(line.startswith("$ datanas ") for line in lines) == 3


def test_a_run_has_its_threads_a_session_of_its_own_and_no_input(command: Make) -> None:
    code = "print(os.environ['OMP_NUM_THREADS'], os.getsid(0) == os.getpid(), repr(sys.stdin.read()))"
    asked = command("asked", code)
    assert run_all([asked], 1, 3) == {}
    assert asked.log.read_text().splitlines()[-1] == "3 True ''"


def test_nothing_to_do_says_nothing() -> None:
    said: list[str] = []
    assert run_all([], 2, 1, said.append) == {}
    assert said == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_every_run_ends(signum: int, code: int, stand_in: Path, tmp_path: Path) -> None:
    """Two run and tell their process numbers; both get SIGTERM once; the third never begins."""
    pipe, told = tmp_path / "pipe", tmp_path / "told"
    os.mkfifo(pipe)
    child = f"""
def receive(signum, frame):
    with open({str(told)!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{signum}}\\n")
    sys.exit(143)
signal.signal(signal.SIGTERM, receive)
with open({str(pipe)!r}, "w") as file:
    file.write(f"{{os.getpid()}}\\n")
while True:
    signal.pause()
"""
    parent = f"""
import os, sys
from pathlib import Path
from datanas.comparison.pool import Command, run_all
from datanas.core.errors import Interrupted
os.environ["PYTHONPATH"] = {str(stand_in)!r}
folder = Path({str(tmp_path)!r})
commands = [Command(f"run{{n}}", ({child!r},), folder / f"done{{n}}", folder / f"{{n}}.log") for n in range(3)]
try:
    run_all(commands, 2, 1)
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pids: list[int] = []
    while len(pids) < 2:
        with pipe.open() as file:
            pids += [int(line) for line in file]
    process.send_signal(signum)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "interrupted; every run has saved its state\n")
    assert sorted(told.read_text().splitlines()) == sorted(f"{pid} {int(signal.SIGTERM)}" for pid in pids)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (tmp_path / "2.log").exists()


def test_a_command_that_cannot_be_started_leaves_nothing_running(
    command: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is a folder; the run before it is told to end, and waited for."""
    processes: list[Any] = []
    original = pool._start
    monkeypatch.setattr(pool, "_start", lambda *given: processes.append(original(*given)) or processes[-1])
    waiting, broken = command("waiting", "signal.pause()"), command("broken")
    broken.log.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        run_all([waiting, broken], 2, 1)
    assert not waiting.done.exists()
    assert [process.returncode for process in processes] == [-signal.SIGTERM]
