"""Texts and settings of the language task that cannot be had: one clear message, the exit code, and nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datanas.runs import read_metrics


@pytest.fixture
def text(text_chain: Any, tmp_path: Path) -> Path:
    """A sound text, to be spoiled."""
    return Path(shutil.copytree(text_chain.text, tmp_path / "text"))


@pytest.fixture
def settings(text_chain: Any, text: Path, runs: Path) -> list[str]:
    """Those of the language task on this text."""
    return [*text_chain.settings(runs), "--data.root", str(text)]


def empty(text: Path) -> None:
    (text / "train.txt").write_text("")


def only_blank(text: Path) -> None:
    (text / "train.txt").write_text(" \n\n")


def without_valid(text: Path) -> None:
    (text / "valid.txt").unlink()


def latin(text: Path) -> None:
    (text / "test.txt").write_bytes("a caf\u00e9\n".encode("latin-1"))


def endless(text: Path) -> None:
    (text / "valid.txt").write_text("a big dog " * 10_001)


def binary(text: Path) -> None:
    (text / "train.txt").write_bytes(b"a \0 dog\n")


TEXTS = [
    (empty, "/train.txt: is empty"),
    (only_blank, "/train.txt: holds no word"),
    (without_valid, "/text: no valid text; found test.txt, train.txt; expected a file such as valid.txt"),
    (latin, "/test.txt: is not UTF-8, the byte 0xe9 at offset 5 cannot be read; save the text as UTF-8"),
    (endless, "/valid.txt: 100,010 characters without a line break; lines are sentences and must end"),
    (binary, "/train.txt: holds NUL bytes, the first at offset 2"),
]


@pytest.mark.parametrize("command", [["search"], ["train", "darts_v1_rnn"]], ids=["search", "train"])
@pytest.mark.parametrize(("spoil", "message"), TEXTS, ids=[spoil.__name__ for spoil, _ in TEXTS])
def test_bad_texts(
    spoil: Callable[[Path], None],
    message: str,
    command: list[str],
    text: Path,
    settings: list[str],
    refused: Callable[..., None],
) -> None:
    spoil(text)
    refused(8, message, *command, *settings)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["search"],
            "2 words for the part 'weights' are too few for a batch of 8 columns, which needs 17; take a smaller",
        ),
        (["train", "lstm"], "4 words for the part 'train' are too few for a batch of 4 columns, which needs 9; take a"),
    ],
    ids=["search", "train"],
)
def test_a_text_shorter_than_a_batch(
    command: list[str], message: str, text: Path, settings: list[str], refused: Callable[..., None]
) -> None:
    (text / "train.txt").write_text("a big dog\n")
    refused(8, f"text {text}/train.txt: {message}", *command, *settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["train", "darts_v1_rnn", "--train.validation", "0.1"], "train.validation: task language brings a part for"),
        (["search", "--train.validation", "0.1"], "train.validation: task language brings a part for validation of"),
        (
            ["train", "darts_v1_rnn", "--train.cells", "2"],
            "train.cells: no setting of recurrent_cell, which has channels, prune; leave it out or at 1, got 2",
        ),
        (
            ["train", "darts_v1_rnn", "--train.auxiliary", "true"],
            "train.auxiliary: no setting of recurrent_cell, which has channels, prune; leave it out or at False",
        ),
        (["train", "darts_v2"], "task.name: darts_v2 of space conv_cell cannot be trained on task language"),
        (["search", "--search.shuffled_labels", "true"], "search.shuffled_labels: task language has no labels"),
    ],
)
def test_settings_that_do_not_fit(
    given: list[str], message: str, settings: list[str], refused: Callable[..., None]
) -> None:
    command = given[: 2 if given[0] == "train" else 1]
    refused(2, message, *command, *settings, *given[len(command) :])


def test_there_is_nothing_to_search_in_an_lstm(runs: Path, refused: Callable[..., None]) -> None:
    message = "space.name: in lstm there is nothing to choose; train it by `datanas train lstm`"
    refused(2, message, "search", "--space.name", "lstm", "--run.root", runs)


@pytest.fixture(
    params=["a big small red blue dog cat bird hears likes", "a big small red blue dog cat bird sees likes it"],
    ids=["as many words", "more words"],
)
def other(request: pytest.FixtureRequest, write_text: Callable[..., Path], tmp_path: Path) -> Path:
    """A text of as many other words, and one of more words."""
    return write_text(tmp_path / "other", request.param)


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("given", [[], ["--checkpoint", "last"]])
def test_a_network_is_not_measured_with_another_vocabulary(
    given: list[str], other: Path, text_chain: Any, cli: Callable[..., Any]
) -> None:
    before = contents(text_chain.train)
    code, out, err = cli("evaluate", text_chain.train, *given, "--data.root", other)
    assert (code, out) == (3, "")
    (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith(f"error: {text_chain.train}/")
    assert line.endswith("it was trained with another vocabulary than that of this text")
    assert contents(text_chain.train) == before


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_run_does_not_go_on_with_another_text(
    kind: str, other: Path, text_chain: Any, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = shutil.copytree(getattr(text_chain, kind), tmp_path / "copy")
    found = read_metrics(run)
    code, out, err = cli(kind, "--quiet", "--resume", run, f"--{kind}.epochs", 3, "--data.root", other)
    assert (code, out) == (8, "")
    assert f"error: the examples or their split have changed since {run} began" in err
    assert read_metrics(run) == found
    again = cli(kind, "--quiet", "--resume", run, f"--{kind}.epochs", 3, "--data.root", text_chain.text)
    assert again.code == 0, again.err
