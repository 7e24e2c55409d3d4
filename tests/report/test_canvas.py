"""Pictures need no display and no backend, and leave matplotlib as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import pytest

from datanas.core.errors import StorageError
from datanas.lookup import architecture
from datanas.report.canvas import draw_all, save_picture
from datanas.report.cells import draw_cells, draw_svg

CELL = architecture("darts_v2")


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_a_backend_that_is_not_installed_does_not_count(backend: str, tmp_path: Path) -> None:
    script = (
        "import os\nfrom pathlib import Path\nfrom datanas.lookup import architecture\n"
        "from datanas.report.cells import draw_cells\n"
        f"assert draw_cells(architecture('darts_v2'), Path({str(tmp_path / 'cells.svg')!r})) == "
        "(['cells.svg', 'cells.png'], [])\nprint(os.environ['MPLBACKEND'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "MPLBACKEND": backend},
    )
    assert (done.returncode, done.stdout.strip()) == (0, backend), done.stderr


def test_the_caller_s_settings_neither_count_nor_change(tmp_path: Path) -> None:
    draw_svg(CELL, tmp_path / "plain.svg")
    ours = {"text.usetex": True, "font.size": 30.0, "axes.facecolor": "black", "svg.fonttype": "path"}
    with matplotlib.rc_context(ours):
        before = dict(matplotlib.rcParams)
        draw_svg(CELL, tmp_path / "styled.svg")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "styled.svg").read_bytes()


def test_threads_draw_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.svg" for number in range(4)]
    before = dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: draw_svg(CELL, path), paths))
    assert len({path.read_bytes() for path in paths}) == 1
    assert dict(matplotlib.rcParams) == before


def test_a_picture_that_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("no font")

    written, failed = draw_all({tmp_path / "a.svg": fail, tmp_path / "b.svg": lambda path: path.touch()})
    assert written == ["b.svg"]
    assert failed == [f"{tmp_path / 'a.svg'} was not drawn: no font"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    written, failed = draw_cells(CELL, tmp_path / "file" / "cells.svg")
    assert (written, len(failed)) == ([], 2)


def test_another_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.svg or \.png"):
        save_picture(lambda: pytest.fail("drawn"), tmp_path / "a.gif")


def test_a_command_that_is_run_for_its_files_fails_without_them(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        draw_cells(CELL, tmp_path / "file" / "cells.svg", require_storage=True)
