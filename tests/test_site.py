"""The documentation's site: it has every page, and no link in it leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import datanas

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr  # strict: a page outside of the menu, a link or an anchor that fails
    return target


def test_every_page_of_the_project_is_there(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "contributing", "changelog"}
    pages |= {path.stem for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert pages <= {path.stem for path in site.glob("*.html")}


def test_every_public_name_has_its_section(site: Path) -> None:
    text = (site / "api.html").read_text()
    headings = set(re.findall(r"datanas\.\w+", re.sub(r"<[^>]+>", "", text)))
    assert {f"datanas.{name}" for name in datanas.__all__ if name != "__version__"} <= headings


def test_settings_stand_with_what_they_mean(site: Path) -> None:
    text = (site / "options.html").read_text()
    assert "search.alpha.lr" in text
    assert "only deterministic kernels on a GPU" in text


def test_a_notebook_is_a_page_of_its_cells_beside_the_file(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "my_pictures.html").read_text())
    assert "datanas.fit(pictures" in text
    assert "```" not in text
    assert (site / "notebooks" / "my_pictures.ipynb").is_file()
