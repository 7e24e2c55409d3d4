"""Imports go one way (DESIGN, "Layout"), and what must start fast loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import datanas

PACKAGE = Path(datanas.__file__).parent

LAYERS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"core"},
            {"codes", "egs", "draw_polynomial", "posterior", "constraint"},
            {"kernels", "nn"},
            {"ops"},
            {"spaces"},
            {"references"},
            {"lookup"},
            {"samplers", "data", "blocks"},
            {"tasks"},
            {"network"},
            {"own_loop"},
            {"budgets"},
            {"runs"},
            {"engine"},
            {"deploy"},
            {"comparison"},
            {"racing"},
            {"fitting"},
            {"report"},
            {"cli"},
            {"testing"},
        ),
    )
)
"""Lowest first. A part imports from its own layer and from those below, save what APART forbids."""

MODEL_CODE = frozenset().union(*LAYERS[2:12])
APART: dict[str, frozenset[str]] = {
    "samplers": frozenset({"data", "blocks"}),
    "blocks": frozenset({"data", "samplers"}),
    "data": frozenset({"samplers", "spaces", "ops", "blocks"}),
    "tasks": frozenset({"samplers"}),
    "network": frozenset({"samplers", "data"}),
    "budgets": frozenset({"samplers", "data", "tasks", "references"}),
    "runs": MODEL_CODE,
    "report": MODEL_CODE | {"engine", "deploy", "comparison", "racing", "fitting"},
}
LIGHTNING = ("lightning", "lightning_fabric", "pytorch_lightning")


def imports(source: str, module: str) -> Iterator[str]:
    """The dotted names that a module imports anywhere in its text; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def part_of(module: str) -> str:
    """`datanas.engine.search` belongs to `engine`; the root's own names to the root."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0]


def level_of(part: str) -> int:
    levels = [level for level, parts in enumerate(LAYERS) if part in parts]
    assert levels, f"{part} has no place in LAYERS; give it one"
    return levels[0]


def faults(source: str, module: str) -> list[str]:
    """What a module imports against the rules."""
    importer = part_of(module)
    found = []
    for name in imports(source, module):
        package, *rest = name.split(".")
        if package in LIGHTNING and module != "datanas.core.joining":
            found.append(f"{module} imports {name}; only core/processes.py may")
        if importer == "report" and package == "torch":
            found.append(f"{module} imports torch")
        if package != "datanas" or rest[0].startswith("__"):
            continue
        imported = rest[0]
        if level_of(imported) > level_of(importer):
            found.append(f"{module} imports {name}, which stands above it")
        if imported in APART.get(importer, ()):
            found.append(f"{module} imports {name}; the two know nothing of each other")
        if {"conv_cell", "nasbench201"} & set(rest) and importer != "spaces":
            found.append(f"{module} imports {name}; spaces are found by name")
    return found


def module_name(path: Path) -> str:
    *parents, stem = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parents if stem == "__init__" else [*parents, stem])


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.stem.startswith("__"))
OLDER_NAMES = "datanas.core.moved"
"""It names modules of all layers, to load them by their older names."""


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])
def test_imports_go_down(path: Path) -> None:
    # A package's own __init__ is named as a module of it, so that relative imports resolve.
    module = module_name(path) + (".__init__" if path.stem == "__init__" else "")
    if module != OLDER_NAMES:
        assert faults(path.read_text(encoding="utf-8"), module) == []


def needed(tree: ast.Module, module: str, known: set[str]) -> set[str]:
    """The modules of ours that must be there before this one can be imported."""
    wanted = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imports(ast.unparse(node), module):
                wanted |= {name if name in known else name.rpartition(".")[0]} & known
    return wanted - {module}


def test_no_modules_import_each_other_in_a_circle() -> None:
    trees = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    graph = {module: needed(tree, module, set(trees)) for module, tree in trees.items()}
    assert sum(map(len, graph.values())) > 500
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_a_circle_is_found() -> None:
    """Negative control."""
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("datanas.samplers.made_up", "from datanas.network import Supernet"),
        ("datanas.samplers.made_up", "from datanas import tasks"),
        ("datanas.samplers.made_up", "from ..data import base"),
        ("datanas.samplers.made_up", "def late():\n    import datanas.engine.search"),
        ("datanas.tasks.made_up", "from datanas.samplers.base import Sampler"),
        ("datanas.spaces.made_up", "import datanas.network"),
        ("datanas.engine.made_up", "from datanas.report.cells import draw_svg"),
        ("datanas.engine.made_up", "from datanas.spaces.conv_cell import ConvCellSpace"),
        ("datanas.engine.made_up", "from datanas.spaces import conv_cell"),
        ("datanas.engine.made_up", "from datanas.spaces.nasbench201 import NASBench201Space"),
        ("datanas.engine.made_up", "from importlib import import_module\nimport_module('datanas.spaces.conv_cell')"),
        ("datanas.engine.made_up", "from lightning.fabric import Fabric"),
        ("datanas.report.made_up", "from torch import Tensor"),
        ("datanas.report.made_up", "from datanas.engine.search import search"),
        ("datanas.report.made_up", "from datanas.comparison.statistics import paired"),
        ("datanas.runs.made_up", "from datanas.kernels.gates import Gates"),
        ("datanas.core.errors", "from datanas.codes.cell import Cell"),
    ],
)
def test_an_offending_import_is_found(module: str, source: str) -> None:
    """Negative control."""
    assert len(faults(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("datanas.network", "from datanas.tasks import tasks"),
        ("datanas.core.joining", "import lightning_fabric"),
        ("datanas.runs.made_up", "import torch"),
        ("datanas.spaces.made_up", "from .conv_cell import ConvCellSpace"),
        ("datanas.cli.made_up", "from datanas import __version__\nimport math"),
    ],
)
def test_a_rightful_import_is_not(module: str, source: str) -> None:
    assert faults(source, module) == []


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys; print(); print('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = loaded_after("import datanas")
    assert "torch" not in loaded
    assert "pydantic" not in loaded
    assert {name for name in loaded if name.startswith("datanas")} == {"datanas"}


def test_help_loads_no_torch_and_of_the_package_only_the_configuration_s_ground() -> None:
    loaded = loaded_after("from datanas.cli import main; assert main(['--help']) == 0")
    assert not {"torch", "torchvision", "numpy", "matplotlib", "sklearn", "tensorboard"} & loaded
    own = {name for name in loaded if name.startswith("datanas.") and not name.startswith("datanas.cli")}
    assert own <= {
        "datanas.core",
        "datanas.core.errors",
        "datanas.core.settings",
        "datanas.core.console",
        "datanas.core.paths",
        "datanas.core.recipes",
    }


@pytest.mark.parametrize("command", ["search", "train", "derive", "evaluate", "profile", "list"])
def test_the_help_of_a_command_loads_no_torch(command: str) -> None:
    assert "torch" not in loaded_after(f"from datanas.cli import main; assert main([{command!r}, '--help']) == 0")


def test_looking_up_a_task_loads_no_scikit_learn() -> None:
    assert "sklearn" not in loaded_after("from datanas.tasks import tasks; assert 'regression' in tasks")


def test_reports_and_run_folders_do_without_torch() -> None:
    report = [module_name(path) for path in FILES if path.relative_to(PACKAGE).parts[0] == "report"]
    runs = ["datanas.runs", "datanas.runs.folder", "datanas.runs.metrics", "datanas.runs.events"]
    assert "torch" not in loaded_after("\n".join(f"import {name}" for name in (*report, *runs)))


NOT_EVERYWHERE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "msvcrt", "winreg", "readline"}


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """What a module imports as soon as it is imported itself."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])
def test_what_one_system_lacks_is_imported_where_it_is_used(path: Path) -> None:
    assert not NOT_EVERYWHERE & set(imported_at_once(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("source", ["import fcntl", "if True:\n    import resource", "class A:\n    from pwd import x"])
def test_such_an_import_is_found(source: str) -> None:
    """Negative control."""
    assert NOT_EVERYWHERE & set(imported_at_once(ast.parse(source)))


def test_a_run_does_without_what_windows_lacks(tiny_images: Path, tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(NOT_EVERYWHERE - {"posix"})!r}))
import datanas
from datanas.cli import main
data = {{"name": "npz", "root": {str(tiny_images)!r}}}
run = lambda name: {{"root": {str(tmp_path)!r}, "name": name}}
settings = {{"data": data, "device": "cpu", "space": {{"cells": 3, "channels": 2}},
    "task": {{"train_augment": {{"cutout": 2}}}},
    "search": {{"epochs": 1, "batch_size": 8, "gap": {{"examples": 8, "children": 2}}}},
    "train": {{"channels": 2, "cells": 3, "epochs": 1, "batch_size": 16, "auxiliary": False}}}}
found = datanas.search({{**settings, "run": run("a")}}, quiet=True)
datanas.train(found.architecture, {{**settings, "run": run("b")}}, quiet=True)
out = {str(tmp_path / "out")!r}
runs = {str(tmp_path)!r}
codes = [main(["list"]), main(["profile", "darts_v2", "--channels", "2", "--cells", "3", "--device", "cpu"]),
    main(["derive", runs + "/a"]), main(["evaluate", runs + "/b"]), main(["export", runs + "/b", out])]
print("CODES", codes, type(datanas.load_network(out)).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert "CODES [0, 0, 0, 0, 0] Network" in done.stdout, done.stderr
