"""What the command line says of itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import datanas
from datanas.cli import COMMANDS
from datanas.lookup import architectures
from datanas.references import references


def test_help_names_every_command_with_its_purpose(cli: Callable[..., Any]) -> None:
    outcome = cli("--help")
    assert outcome.code == 0
    for name in COMMANDS:
        line = next(line for line in outcome.out.splitlines() if line.startswith(f"│ {name} "))
        assert len(line.strip("│ ").split()) > 3
    assert "--debug" in outcome.out
    assert cli() == outcome


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("search", ["--config -c", "--seed", "--resume", "--plugin", "--print-config", "--dry-run", "--SECTION.KEY"]),
        ("derive", ["RUN", "--top -n", "--samples", "--epoch", "--output -o", "--genotype"]),
        ("train", ["--architecture -a", "--config -c", "--seed", "--resume", "--plugin", "--dry-run", "--SECTION.KEY"]),
        ("sample", ["--config -c", "--seed", "--output -o", "--SECTION.KEY"]),
        ("evaluate", ["RUN", "--SECTION.KEY"]),
        ("predict", ["RUN", "INPUT", "--top", "--csv", "--output -o", "--support", "--skip-broken", "--continue"]),
        (
            "profile",
            [
                "ARCHITECTURE",
                "--channels",
                "--cells",
                "--classes",
                "--size",
                "--stem",
                "--batch",
                "--device",
                "--threads",
                "--json",
            ],
        ),
        ("calibrate", ["--config -c", "--output -o", "--csv", "--plot", "--rounds", "--again", "--SECTION.KEY"]),
        ("list", ["KIND", "operations", "samplers", "architectures", "--plugin"]),
    ],
)
def test_help_of_a_command_names_its_options(command: str, wanted: list[str], cli: Callable[..., Any]) -> None:
    outcome = cli(command, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert [option for option in wanted if option not in outcome.out] == []


def test_help_loads_no_torch() -> None:
    program = (
        "import sys; from datanas.cli import COMMANDS, main\n"
        "for arguments in [['--help'], ['--version'], *([name, '--help'] for name in COMMANDS)]:\n"
        "    assert main(arguments) == 0\n"
        "sys.exit(bool({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_version(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"{datanas.__version__}\n", "")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["serch"], 'Did you mean "search"?'),
        (["evalute", "runs/x"], 'Did you mean "evaluate"?'),
        (["list", "sampler"], 'Did you mean "samplers"?'),
        (["derive"], "RUN requires an argument"),
        (["derive", "x", "--tpo", "3"], "--tpo"),
        (["profile", "darts", "--cells", "x"], "--cells: unable to convert"),
    ],
)
def test_bad_usage_is_one_line_with_a_hint(given: list[str], hint: str, cli: Callable[..., Any]) -> None:
    code, out, err = cli(*given)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert hint in line


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("operations", ["none", "skip_connect", "sep_conv_3x3"]),
        ("activations", ["tanh", "identity"]),
        ("spaces", ["conv_cell", "recurrent_cell"]),
        ("samplers", ["egs"]),
        ("tasks", ["classification", "language"]),
        ("data", ["cifar10", "folder", "npz", "photos", "ptb", "text"]),
    ],
)
def test_list_prints_the_names_of_a_kind(kind: str, some: list[str], cli: Callable[..., Any]) -> None:
    outcome = cli("list", kind)
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    title, _, names = line.partition(": ")
    assert title == kind
    assert set(some) <= set(names.split(", "))


def test_list_prints_published_architectures_with_their_papers(cli: Callable[..., Any]) -> None:
    title, *lines = cli("list", "architectures").out.splitlines()
    assert title == "architectures:"
    assert [line.split()[0] for line in lines] == architectures()
    assert all(": " in line for line in lines)


def test_list_prints_what_to_compare_with(cli: Callable[..., Any]) -> None:
    title, *lines = cli("list", "references").out.splitlines()
    assert title == "references:"
    assert [line.split()[0] for line in lines] == list(references)


def test_list_prints_everything_where_no_kind_is_named(cli: Callable[..., Any]) -> None:
    out = cli("list").out
    assert [line.split(":")[0] for line in out.splitlines() if line[0] != " "] == [
        *("operations", "activations", "spaces", "samplers", "tasks", "data", "architectures", "references")
    ]


def test_as_a_process_it_exits_with_the_code_and_keeps_stdout_clean(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "datanas", "search", "--sampler.samples"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: --sampler.samples: a value must follow\n"
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_came_from(cli: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(datanas.core.errors.CheckpointError, match="not a run folder"):
        cli("evaluate", tmp_path, "--debug")


def test_an_error_that_is_ours_is_said_to_be_so(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Path, overrides: object, *, checkpoint: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("datanas.engine.evaluation.evaluate_parts", fail)
    code, _, err = cli("evaluate", "run")
    assert code == 1
    assert err.startswith("error: internal error: KeyError: 'lost'\n")
    with pytest.raises(KeyError):
        cli("evaluate", "run", "--debug")
