"""The command line inside this process, the tiny configuration as its arguments, and one finished run of each kind."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from datanas.cli import main
from datanas.runs import read_metrics


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Chain(NamedTuple):
    """The run folders of a finished search and training, and what each command printed."""

    root: Path
    search: Path
    train: Path
    printed: dict[str, Outcome]


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    """`datanas ARGUMENTS` in this process."""

    def call(*arguments: object) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        return Outcome(code, out.getvalue(), err.getvalue())

    return call


def flatten(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield from (f"--{path}{name}", value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def options() -> Callable[[Mapping[str, Any]], list[str]]:
    """A configuration as command-line arguments."""
    return lambda config: [*flatten(config)]


@pytest.fixture
def settings(tiny_config: dict[str, Any]) -> list[str]:
    """The tiny configuration as command-line arguments."""
    return [*flatten(tiny_config)]


@pytest.fixture
def runs(tiny_config: dict[str, Any]) -> Path:
    """Where the tiny configuration puts its runs."""
    return Path(tiny_config["run"]["root"])


@pytest.fixture
def refused(cli: Callable[..., Any], runs: Path) -> Callable[..., None]:
    """Run a command that must fail with this code and this in its message, and leave no run."""

    def check(code: int, message: str, *arguments: object) -> None:
        outcome = cli(*arguments)
        assert outcome.code == code, outcome.err
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        (line,) = [line for line in outcome.err.splitlines() if not line.startswith("warning: ")]
        assert line.startswith("error: ")
        assert message in line
        assert not runs.exists()

    return check


@pytest.fixture(scope="session")
def write_text() -> Callable[..., Path]:
    """Write the three files of a text of some words into a new folder."""

    def write(folder: Path, words: str) -> Path:
        folder.mkdir()
        chance, choice = random.Random(0), words.split()
        for split, lines in {"train": 60, "valid": 12, "test": 12}.items():
            text = "".join(" ".join(chance.choices(choice, k=6)) + "\n" for _ in range(lines))
            (folder / f"{split}.txt").write_text(text)
        return folder

    return write


WORDS = "a big small red blue dog cat bird sees likes"


class TextChain(NamedTuple):
    """The folder of a text, settings for it, and run folders and prints as of `Chain`."""

    text: Path
    settings: Callable[[Path], list[str]]
    search: Path
    train: Path
    printed: dict[str, Outcome]


@pytest.fixture(scope="session")
def text_chain(write_text: Callable[..., Path], cli: Callable[..., Outcome], tmp_path_factory: Any) -> TextChain:
    """search, derive, train, evaluate and profile on a tiny text, in a folder that no test may change."""
    root = tmp_path_factory.mktemp("text-chain")
    text = write_text(root / "text", WORDS)

    def settings(runs: Path) -> list[str]:
        sections = {
            "run": {"root": str(runs), "name": "run", "checkpoint_every": 1},
            "device": "cpu",
            "data": {"name": "text", "root": str(text)},
            "task": {"name": "language", "sequence": 8},
            "space": {"hidden": 4, "nodes": 6},
            "search": {"epochs": 2, "batch_size": 8, "gap": {"children": 2, "examples": 60}},
            "train": {"channels": 4, "epochs": 2, "batch_size": 4},
        }
        return [*flatten(sections)]

    search, train = root / "search", root / "train"
    printed = {
        "search": cli("search", *settings(root), "--run.name", "search"),
        "derive": cli("derive", search, "--top", 3, "-o", root / "derived.json"),
        "train": cli("train", search, *settings(root), "--run.name", "train"),
        "evaluate": cli("evaluate", train),
        "profile": cli("profile", search, "--channels", 4, "--classes", 11, "--device", "cpu", "--no-memory"),
        "lstm": cli("train", "lstm", *settings(root), "--run.name", "lstm"),
    }
    assert {name: outcome.code for name, outcome in printed.items()} == dict.fromkeys(printed, 0), printed
    return TextChain(text, settings, search, train, printed)


@pytest.fixture
def recipe(tiny_config: dict[str, Any], tmp_path: Path) -> Path:
    """The tiny configuration as a file."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_config))
    return path


@pytest.fixture(scope="session")
def chain(make_config: Callable[[Path], dict[str, Any]], cli: Callable[..., Outcome], tmp_path_factory: Any) -> Chain:
    """search, derive, train and evaluate with the tiny configuration, in a folder that no test may change."""
    root = tmp_path_factory.mktemp("chain")
    settings = [*flatten(make_config(root))]
    search, train = root / "search", root / "train"
    printed = {
        "search": cli("search", *settings, "--run.name", "search"),
        "derive": cli("derive", search, "--top", 3, "-o", root / "derived.json"),
        "train": cli("train", search, *settings, "--run.name", "train"),
        "evaluate": cli("evaluate", train),
    }
    assert {name: outcome.code for name, outcome in printed.items()} == dict.fromkeys(printed, 0), printed
    return Chain(root, search, train, printed)


@pytest.fixture
def goes_on(cli: Callable[..., Outcome], tmp_path: Path) -> Callable[[Path], None]:
    """Check that a finished run which has lost its last checkpoint and its results gets the same ones by `--resume`."""

    def left_by(run: Path, results: Sequence[str]) -> list[object]:
        lines = [{name: value for name, value in line.items() if name != "time"} for line in read_metrics(run)]
        return [lines, *((run / result).read_bytes() for result in results)]

    def check(finished: Path) -> None:
        run = tmp_path / finished.name
        shutil.copytree(finished, run)
        checkpoints = sorted(folder for folder in (run / "checkpoints").iterdir() if folder.is_dir())
        assert len(checkpoints) > 1
        shutil.rmtree(checkpoints[-1])
        searched = (run / "genotypes").is_dir()
        results = ["architecture.json"] if searched else ["network.safetensors", "evaluation.json"]
        for result in results:
            (run / result).unlink()
        outcome = cli("search" if searched else "train", "--resume", run)
        assert outcome.code == 0, outcome.err
        assert left_by(run, results) == left_by(finished, results)

    return check
