"""Whatever the system says of a path: one line, the exit code of what the path was for, and no internal error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LONG = "x" * 300
TEXT = "Genotype(normal=[('skip_connect', 0)], normal_concat=[2]" * 20
COMMANDS = [
    (2, ["search", "-c", "PATH"]),
    (2, ["search", "--plugin", "PATH"]),
    (2, ["search", "--plugins", "PATH"]),
    (3, ["search", "--resume", "PATH"]),
    (3, ["train", "--resume", "PATH"]),
    (3, ["train", "darts_v2", "--train.start_from", "PATH"]),
    (3, ["derive", "PATH"]),
    (3, ["evaluate", "PATH"]),
    (3, ["export", "PATH", "folder"]),
    (3, ["compare", "--resume", "PATH"]),
    (2, ["compare", "-c", "PATH"]),
    (8, ["search", "--space.name", "nasbench201", "--truth.table", "PATH"]),
    (6, ["search", "--run.root", "PATH"]),
    (6, ["sample", "-o", "PATH"]),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", [LONG, TEXT, f"{LONG}/a"])
@pytest.mark.parametrize(
    ("code", "command"), COMMANDS, ids=lambda value: "-".join(value) if type(value) is list else ""
)
def test_a_path_that_can_be_none(code: int, command: list[str], path: str, cli: Callable[..., Any]) -> None:
    outcome = cli(*[path if word == "PATH" else word for word in command])
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert "internal" not in line
    assert len(line) < 400


@pytest.mark.parametrize("command", [["profile"], ["train"], ["train", "-a"]])
@pytest.mark.parametrize(("given", "code"), [(LONG, 2), (f"{LONG}/a", 2), (TEXT, 3)])
def test_what_is_no_architecture(command: list[str], given: str, code: int, cli: Callable[..., Any]) -> None:
    outcome = cli(*command, given)
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    (line,) = outcome.err.splitlines()
    assert "internal" not in line
    assert len(line) < 400


def test_an_empty_name_of_a_file_is_none(cli: Callable[..., Any]) -> None:
    assert cli("sample", "-o", "").code == 6


@pytest.mark.parametrize("command", [["search", "-c"], ["derive"], ["evaluate"], ["search", "--plugin"]])
def test_a_loop_of_links(command: list[str], cli: Callable[..., Any]) -> None:
    Path("loop").symlink_to("loop")
    outcome = cli(*command, "loop")
    assert outcome.code == (2 if command[0] == "search" else 3)
    assert "internal" not in outcome.err
