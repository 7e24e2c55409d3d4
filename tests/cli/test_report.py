"""`datanas report` as a command: what it prints, how it refuses, and what it never loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datanas import search
from datanas.cli import main
from datanas.report.page import vega, write


@pytest.fixture(scope="module")
def found(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return search({**make_config(root), "run": {"root": str(root), "name": "found"}}, quiet=True).path


@pytest.fixture
def _without_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts' program takes a second to make, and may not be installed."""
    monkeypatch.setattr(write, "require_vega", lambda: None)
    monkeypatch.setattr(write, "vega_program", lambda: "")


@pytest.mark.usefixtures("_without_program")
def test_it_says_where_the_report_is(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new folder" / "report.html"
    assert main(["report", str(found), "-o", str(target)]) == 0
    assert capsys.readouterr().out.startswith(f"written to {target} (0.")
    assert target.read_text().startswith("<!doctype html>")
    assert target.read_text().rstrip().endswith("</html>")


@pytest.mark.usefixtures("_without_program")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "of which runs?"),
        (["/nowhere/at-all"], 3, "not a run folder"),
        (["FOUND", "/nowhere/at-all", "-o", "OUT/a.html"], 3, "not a run folder"),
        (["FOUND", "-o", "OUT"], 2, "is a folder"),
        (["FOUND", "-o", "OUT/mine.txt"], 2, "is no report"),
        (["FOUND", "-o", "OUT/mine.txt/a.html"], 6, "cannot be written"),
        (["FOUND", "-o", f"OUT/{'x' * 300}.html"], 6, "File name too long"),
        (["FOUND", "-o", "OUT/a\0.html"], 6, "no name of a file"),
    ],
)
def test_what_will_not_do_is_told_in_a_line_and_writes_nothing(
    found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = sorted(path.name for path in found.iterdir())
    given = [each.replace("FOUND", str(found)).replace("OUT", str(tmp_path)) for each in arguments]
    assert main(["report", *given]) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in found.iterdir()) == before


@pytest.mark.usefixtures("_without_program")
def test_a_folder_that_turns_read_only_leaves_nothing_half_written(
    found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(os, "replace", refuse)
    assert main(["report", str(found), "-o", str(tmp_path / "report.html")]) == 6
    assert "choose a folder that can be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["report", "/nowhere/at-all", "-o", str(tmp_path / "report.html")]) == 2
    assert "pip install 'datanas[report]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_without_program")
def test_damage_is_a_warning(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (found / "result.json").read_bytes()
    (found / "result.json").write_bytes(whole[:20])
    try:
        assert main(["report", str(found), "-o", str(tmp_path / "report.html")]) == 0
    finally:
        (found / "result.json").write_bytes(whole)
    assert "warning: found: result.json cannot be read" in capsys.readouterr().err


def test_a_report_is_made_without_torch(found: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from datanas.report.page import write
write.require_vega, write.vega_program = (lambda: None), (lambda: "")
from datanas.cli import main
assert main(["report", {str(found)!r}, "-o", {str(tmp_path / "report.html")!r}]) == 0
print("LOADED", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "torchvision", "sklearn"} & set(done.stdout.rsplit("LOADED", 1)[1].split())


def test_the_program_is_whole_and_ends_no_script() -> None:
    pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    program = vega.vega_program()
    assert "window.vegaEmbed" in program
    assert "</script" not in program.lower()
    assert len(program) < 1_200_000
