"""A search and two trainings that are complete, and pages without the charts' program, which takes a second to make."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from datanas import search, train
from datanas.report.page import write


@pytest.fixture(scope="session")
def finished(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`found`, a search; `trained`, what it kept; `plain`, ResNet-18 on the same data."""
    root = tmp_path_factory.mktemp("report")
    config = make_config(root)
    config = {**config, "train": {**config["train"], "validation": 0.25}}

    def named(name: str) -> dict[str, Any]:
        return {**config, "run": {"root": str(root), "name": name}}

    search(named("found"), quiet=True)
    train(root / "found", named("trained"), quiet=True)
    plain = named("plain")
    plain["train"] = {"channels": 2, "epochs": 2, "batch_size": 16, "validation": 0.25}
    train("resnet18", plain, quiet=True)
    return root


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may change."""
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """A run folder of a kind, with files of plain data in it."""

    def made(kind: str, **files: Any) -> Path:
        path = tmp_path / kind
        path.mkdir()
        (path / "config.yaml").write_text("seed: 0\n")
        (path / "env.json").write_text(json.dumps({"kind": kind}))
        for name, data in files.items():
            (path / f"{name}.json").write_text(json.dumps(data))
        return path

    return made


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """The text of a report over runs, without the charts' program."""
    monkeypatch.setattr(write, "require_vega", lambda: None)
    monkeypatch.setattr(write, "vega_program", lambda: "")

    def make(*runs: Path) -> str:
        return write.write_report(runs, tmp_path / "report.html").path.read_text(encoding="utf-8")

    return make


class Shown(HTMLParser):
    """What a reader sees, and whether every element that is opened is closed."""

    VOID = frozenset({"meta", "link", "input", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self._texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self._texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self._texts))


@pytest.fixture(scope="session")
def shown() -> type[Shown]:
    """Reads a page."""
    return Shown
