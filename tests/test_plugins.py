"""A new operation, sampler, task, data set, space and reference, each in one file outside the package."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from datanas import Architecture
from datanas.cli import main
from datanas.core import registry
from datanas.data import datasets
from datanas.ops import operations
from datanas.references import references
from datanas.samplers import samplers
from datanas.spaces import spaces
from datanas.tasks import tasks

REGISTRIES: dict[str, registry.Registry[Any]] = {
    "operations": operations,
    "samplers": samplers,
    "tasks": tasks,
    "data": datasets,
    "spaces": spaces,
    "references": references,
}

FILES = Path(__file__).parent / "plugins"
PLUGINS = {
    "operations": "conv_1x1_twice",
    "samplers": "one_an_edge",
    "tasks": "brier",
    "data": "stripes",
    "spaces": "chain",
    "references": "one_conv",
}
"""By kind: the component's name, after which its file is called."""

SUITES = {"operations": "ops"}
"""By kind: the folder of its contract suite, where it is not called like the kind."""


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Take out of the registries what a test has put there."""
    assert all(list(entries) for entries in REGISTRIES.values())
    before = {kind: dict(entries._entries) for kind, entries in REGISTRIES.items()}
    modules = set(sys.modules)
    yield
    for kind, entries in REGISTRIES.items():
        entries._entries = dict(before[kind])
    for name in set(sys.modules) - modules:
        if name.startswith(("datanas_plugin_", "stripes_package")):
            del sys.modules[name]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The plugin of each kind as a file in a folder of the test's own."""
    return {kind: Path(shutil.copy(FILES / f"{name}.py", tmp_path)) for kind, name in PLUGINS.items()}


def datanas(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def assert_evaluated_as_trained(run: object, trained: str) -> list[str]:
    """What evaluating prints, the first line as after training."""
    code, out, err = datanas("evaluate", run)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == trained.splitlines()[0]
    return lines


def listed(kind: str, *arguments: object) -> set[str]:
    code, out, err = datanas("list", kind, *arguments)
    assert (code, err) == (0, "")
    if kind == "references":  # one a line, with who published it
        return {line.split()[0] for line in out.strip().splitlines()[1:]}
    return set(out.strip().removeprefix(f"{kind}: ").split(", "))


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_file_is_listed_where_it_is_given(kind: str, files: dict[str, Path]) -> None:
    without = listed(kind)
    assert listed(kind, "--plugin", files[kind]) == {*without, PLUGINS[kind]}


@pytest.mark.parametrize("as_list", [False, True])
def test_the_command_line_adds_to_those_of_a_recipe(as_list: bool, files: dict[str, Path], tmp_path: Path) -> None:
    first, second = (str(files[kind]) for kind in ("samplers", "tasks"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"plugins": [first] if as_list else first, "task": "brier"}))
    code, out, err = datanas("search", "-c", tmp_path / "recipe.yaml", "--plugin", second, "--print-config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["plugins"] == [first, second]


SETTINGS = (
    *("--device", "cpu", "--data.name", "stripes", "--space.cells", "3", "--space.channels", "2", "--space.nodes", "5"),
    *("--space.primitives", "[none, skip_connect, conv_1x1_twice]", "--sampler.name", "one_an_edge"),
    *("--task.name", "brier", "--search.epochs", "2", "--search.batch_size", "8", "--search.alpha.lr", "0.1"),
    *("--search.gap.children", "2", "--search.gap.examples", "8", "--search.gap.statistics_batches", "1"),
    *("--train.channels", "2", "--train.cells", "3", "--train.epochs", "1", "--train.auxiliary", "false", "--quiet"),
    *("--task.train_augment.cutout", "2"),
)


def test_files_of_every_kind_work_together(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins = [token for file in files.values() for token in ("--plugin", file.name)]
    code, out, err = datanas("search", *SETTINGS, *plugins, "--run.name", "search")
    assert (code, err) == (0, "")
    kept = Architecture.load("runs/search/architecture.json")
    for cell in kept.cells.values():
        assert cell.primitives == ("none", "skip_connect", "conv_1x1_twice")
        assert (cell.code.sum(axis=1) <= 1).all()
    assert kept.source is not None
    assert kept.source["method"] == {"name": "one_an_edge", "tau": 1.0}
    assert kept.source["data"]["classes"] == ["lying", "standing"]

    code, out, err = datanas("train", "runs/search", *SETTINGS, *plugins, "--run.name", "train")
    assert (code, err) == (0, "")
    _, interval = assert_evaluated_as_trained("runs/train", out)
    assert interval.startswith("  95 % interval of accuracy ")
    assert datanas("derive", "runs/search")[0] == 0


def test_a_run_knows_its_plugins_wherever_it_is_read(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins = [token for file in files.values() for token in ("--plugin", file.name)]
    assert datanas("search", *SETTINGS, *plugins, "--run.name", "search")[0] == 0
    written = yaml.safe_load((tmp_path / "runs/search/config.yaml").read_text())
    assert written["plugins"] == [str(file) for file in files.values()]
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "datanas", "derive", str(tmp_path / "runs/search"), "-o", "again.json"]
    subprocess.run(command, cwd=tmp_path / "elsewhere", check=True, capture_output=True)
    again, kept = tmp_path / "elsewhere/again.json", tmp_path / "runs/search/architecture.json"
    assert Architecture.load(again) == Architecture.load(kept)


def test_data_that_escapes_its_own_checks_stops_the_search(files: dict[str, Path], tmp_path: Path) -> None:
    spoilt = files["data"].read_text().replace("        check_images", "        train.images[:] = torch.nan\n        #")
    files["data"].write_text(spoilt.replace(".to(torch.uint8)", ".float()"))
    plugins = [token for file in files.values() for token in ("--plugin", file)]
    code, out, err = datanas("search", *SETTINGS, *plugins, "--run.root", tmp_path / "runs")
    assert (code, out) == (4, "")
    assert "alpha step 1, batch 1 of pass 1 through 'alpha': the loss is nan" in err


def test_a_space_in_one_file_is_searched_trained_and_read_from_its_text(files: dict[str, Path], tmp_path: Path) -> None:
    plugins = [token for kind in ("spaces", "data") for token in ("--plugin", files[kind])]
    settings = (
        *("--device", "cpu", "--data.name", "stripes", "--space.name", "chain", "--space.channels", "2"),
        *("--search.epochs", "1", "--search.batch_size", "8", "--search.gap.children", "2", "--run.root", tmp_path),
        *("--search.gap.examples", "8", "--train.channels", "2", "--train.epochs", "1", "--quiet"),
        *("--task.train_augment.cutout", "2"),
    )
    code, _, err = datanas("search", *settings, *plugins, "--run.name", "search")
    assert (code, err) == (0, "")
    kept = Architecture.load(tmp_path / "search" / "architecture.json")
    assert (kept.space, list(kept.cells)) == ("chain", ["chain"])
    assert Architecture.from_text(kept.to_json()) == kept
    code, out, err = datanas("train", kept.to_json(), *settings, *plugins, "--run.name", "train")
    assert (code, err) == (0, "")
    assert_evaluated_as_trained(tmp_path / "train", out)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tests of the contract suites, as pytest lists them with the plugins loaded."""
    root = tmp_path_factory.mktemp("plugins")
    paths = [shutil.copy(FILES / f"{name}.py", root) for name in PLUGINS.values()]
    tests = Path(__file__).parent
    suites = [str(tests / SUITES.get(kind, kind) / "test_contract.py") for kind in PLUGINS]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *suites]
    environment = {**os.environ, "DATANAS_TEST_PLUGINS": os.pathsep.join(map(str, paths)), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tests.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", PLUGINS)
def test_contract_suites_run_over_what_a_file_registers(kind: str, collected: str) -> None:
    """That a good file passes them, and a wrong one does not: `tests/testing/test_suites.py`."""
    suite = f"{SUITES.get(kind, kind)}/test_contract.py::"
    assert sum(suite in line and PLUGINS[kind] in line for line in collected.splitlines()) > 2


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "stripes_package", (FILES / "stripes.py").read_text(), monkeypatch)
    assert "stripes" in listed("data")


def test_an_installed_package_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "stripes_package", "raise RuntimeError('out of paint')", monkeypatch)
    assert datanas("list", "data") == (2, "", "error: plugin stripes_package: RuntimeError: out of paint\n")


def install(root: Path, module: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a distribution with the entry point on the path, and let the registries look again."""
    (root / f"{module}.py").write_text(text)
    information = root / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[datanas.plugins]\nstripes = {module}\n")
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(registry, "_plugins_loaded", False)
    for entries in REGISTRIES.values():
        monkeypatch.setattr(entries, "_filled", False)
