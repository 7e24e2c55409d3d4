"""What a command does where nobody can hear it, and where its output cannot be written."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.cli import main


def datanas(arguments: str, shell: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command with something of the shell behind it."""
    command = f"{sys.executable} -m datanas {arguments} {shell}"
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=300, env={**os.environ, **variables}
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_answer_to_a_full_device_is_exit_code_6() -> None:
    done = datanas("search --help", "> /dev/full")
    assert done.returncode == 6
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_who_has_read_enough_ends_nothing() -> None:
    done = datanas("search --help", "| head -1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_end_nothing(closed: str) -> None:
    assert datanas("--version", closed).returncode == 0


class Full(io.StringIO):
    """Standard output on a full device."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["output", "pictures"])
def test_a_finished_search_is_finished_whatever_cannot_be_shown(
    fault: str, chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started again, the search of the chain has nothing left to do but to tell."""
    run = Path(shutil.copytree(chain.search, tmp_path / "run"))

    def fail(*given: object, **more: object) -> None:
        raise RuntimeError("no font")

    if fault == "output":
        monkeypatch.setattr(sys, "stdout", Full())
    else:
        monkeypatch.setattr("datanas.report.canvas.save_picture", fail)
        monkeypatch.setattr("datanas.report.cells.save_picture", fail)
    code = main(["search", "--resume", str(run)])
    captured = capsys.readouterr()
    assert code == 0
    if fault == "output":
        assert "warning: the search is complete in" in captured.err
    else:
        assert "warning: " in captured.out
        assert "cells.png was not drawn: no font" in captured.out
        assert "architecture.json, metrics.jsonl" in captured.out


def test_an_internal_error_can_be_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert main(["no-such-command"]) == 2


def test_a_notice_is_said_once_a_command(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*given: object, **more: object) -> None:
        for _ in range(3):
            logging.getLogger("datanas.data.decode.images").warning("%s: left out %d", "photos", 3)

    monkeypatch.setattr("datanas.core.registry.load_plugin", run)
    outcome = cli("list", "operations", "--plugin", "a.py", "--plugin", "b.py")
    assert outcome.err == "warning: photos: left out 3\n"
