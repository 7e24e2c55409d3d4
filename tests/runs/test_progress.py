from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.text import Text

from datanas.runs import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")


def test_plain_lines_stand_an_interval_apart_and_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("search", 1000, stream=stream, clock=clock) as progress:
        for _ in range(4):
            clock.now += 10
            progress.advance(30, text="loss 1.23", stage="epoch 3/20")
    assert stream.getvalue().splitlines() == [
        "search  epoch 3/20  step 60/1000  3.0 it/s  remaining 5:13  loss 1.23",
        "search  epoch 3/20  step 120/1000  3.0 it/s  remaining 4:53  loss 1.23",
        "search  epoch 3/20  step 120/1000  3.0 it/s  elapsed 0:40  loss 1.23",
    ]


def test_the_interval_is_a_setting() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", 10, stream=stream, clock=clock, interval=0) as progress:
        for _ in range(3):
            clock.now += 1
            progress.advance()
    assert len(stream.getvalue().splitlines()) == 4


def test_text_and_stage_stay_until_the_next() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", 10, stream=stream, clock=clock, interval=0) as progress:
        clock.now += 1
        progress.advance(text="loss 1", stage="epoch 1/2")
        progress.advance()
        progress.advance(text="", stage="epoch 2/2")
    _, second, third, _ = stream.getvalue().splitlines()
    assert second == "train  epoch 1/2  step 2/10  2.0 it/s  remaining 0:04  loss 1"
    assert third == "train  epoch 2/2  step 3/10  3.0 it/s  remaining 0:02"


def test_the_steps_of_an_earlier_process_do_not_count_into_the_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", 100, done=50, stream=stream, clock=clock, interval=10) as progress:
        clock.now += 10
        progress.advance(10)
    assert stream.getvalue().splitlines()[0] == "train  step 60/100  1.0 it/s  remaining 0:40"


def test_no_steps_have_no_rate() -> None:
    stream = io.StringIO()
    with Progress("train", 10, stream=stream, clock=Clock()):
        pass
    assert stream.getvalue() == "train  step 0/10  elapsed 0:00\n"


def test_hours() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("train", 1, stream=stream, clock=clock):
        clock.now += 3600 * 27 + 61
    assert "elapsed 27:01:01" in stream.getvalue()


def test_the_last_line_stands_after_an_error_too() -> None:
    stream = io.StringIO()
    progress = Progress("train", 10, stream=stream)
    progress.advance(4)
    with pytest.raises(ZeroDivisionError), progress:
        raise ZeroDivisionError
    assert "step 4/10" in stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_message_is_printed_as_it_is(kind: type[io.StringIO]) -> None:
    stream = kind()
    with Progress("train", 10, stream=stream) as progress:
        progress.message("[red]best[/red] " + "long " * 50)
    assert "[red]best[/red] " + "long " * 50 in Text.from_ansi(stream.getvalue()).plain


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_shows_nothing(kind: type[io.StringIO]) -> None:
    stream = kind()
    with Progress("train", 10, quiet=True, stream=stream, interval=0) as progress:
        progress.advance(5, text="loss")
        progress.message("line")
    assert stream.getvalue() == ""
    assert progress.done == 5


def test_a_terminal_has_a_bar() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("search", 10, done=2, stream=stream, clock=clock) as progress:
        clock.now += 2
        progress.advance(4, text="loss [1.5]", stage="epoch 1/2")
    shown = Text.from_ansi(stream.getvalue()).plain
    for part in ("search", "epoch 1/2", "6/10", "2.0 it/s  remaining 0:02  loss [1.5]", "━"):
        assert part in shown


def test_a_narrow_terminal_cuts_the_figures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    stream, clock = Terminal(), Clock()
    with Progress("search", 10_000, stream=stream, clock=clock) as progress:
        clock.now += 10
        progress.advance(345, text="loss 1.234  accuracy 0.456", stage="epoch 12/50")
    shown = Text.from_ansi(stream.getvalue()).plain
    for part in ("search", "epoch 12/50", "345/10000", "34.5 it/s", "…"):
        assert part in shown
    assert "accuracy" not in shown


def test_a_dumb_terminal_has_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress("search", 10, stream=stream) as progress:
        progress.advance(10)
    assert "\x1b" not in stream.getvalue()
    assert "step 10/10" in stream.getvalue()


def test_plain_lines_go_to_stderr_and_do_without_rich() -> None:
    code = (
        "import sys\nfrom datanas.runs import Progress\n"
        "with Progress('search', 3) as progress: progress.advance(3)\n"
        "print('rich' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
    assert answer.stderr.startswith("search  step 3/3")
