"""A new operation, sampler, task and data set, each in one file outside the package."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from datanas import Architecture
from datanas.cli import main
from datanas.core import registry
from datanas.data import datasets
from datanas.ops import operations
from datanas.samplers import samplers
from datanas.spaces import spaces
from datanas.tasks import tasks

REGISTRIES = {"operations": operations, "samplers": samplers, "tasks": tasks, "data": datasets, "spaces": spaces}

OPERATION = """
from torch import nn

from datanas.ops import OpSettings, register_op
from datanas.ops.conv import PointwiseConv


@register_op("conv_1x1_twice")
def conv_1x1_twice(settings: OpSettings) -> nn.Module:
    def layer(stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReLU(),
            PointwiseConv(settings.channels, settings.channels, stride),
            nn.BatchNorm2d(settings.channels, affine=settings.affine),
        )

    return nn.Sequential(layer(settings.stride), layer(1))
"""

SAMPLER = '''
"""One operation an edge, by straight-through Gumbel-Softmax."""

from typing import Literal

import torch
from pydantic import Field

from datanas.core.settings import ComponentConfig
from datanas.egs import gumbel_softmax
from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, Sampler, Vectors
from datanas.samplers.derivation import derive_likeliest


@register_sampler("one_an_edge")
class OneAnEdge(Sampler):
    class Config(ComponentConfig):
        name: Literal["one_an_edge"] = "one_an_edge"
        tau: float = Field(1.0, gt=0)

    def __init__(self, config, groups, space):
        super().__init__(config, groups, space)
        self.config = config
        self.vectors = {name: Vectors(group, "edge") for name, group in groups.items()}

    def draw(self, progress, generator, *, uniform=False):
        gates, probs, codes = {}, {}, {}
        for name, layout in self.vectors.items():
            alpha = self.alpha[name]
            log_probs = layout.log_probs(torch.zeros_like(alpha) if uniform else alpha)
            codes[name] = gumbel_softmax(log_probs, self.config.tau, generator=generator)
            probs[name] = log_probs.exp()
            gates[name] = layout.to_edges(layout.operations(codes[name]))
        return Draw(gates, probs, codes)

    def _probs(self):
        alphas = {name: alpha.detach().double() for name, alpha in self.alpha.items()}
        return {name: layout.log_probs(alphas[name]).exp() for name, layout in self.vectors.items()}

    def probabilities(self):
        return {name: self.vectors[name].shares(probs) for name, probs in self._probs().items()}

    def flatness(self):
        return {name: self.vectors[name].flatness(probs) for name, probs in self._probs().items()}

    def derive(self, n=1):
        options = {"space": self.space, "scope": "edge", "aggregate": "sum"}
        return derive_likeliest(self._probs(), self.vectors, 1, n, **options)
'''

TASK = '''
from typing import Literal

from torch.nn import functional as F

from datanas.tasks import register_task
from datanas.tasks.classification import Classification


@register_task("brier")
class Brier(Classification):
    """Classification by the squared error of the probabilities."""

    class Config(Classification.Config):
        name: Literal["brier"] = "brier"

    def loss(self, model, batch):
        output = model(batch.images)
        logits = output[0] if isinstance(output, tuple) else output
        wanted = F.one_hot(batch.labels, self.num_classes).float()
        return (logits.float().softmax(dim=1) - wanted).square().sum(dim=1).mean()
'''

DATASET = '''
from typing import Literal

import torch
from pydantic import Field

from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images


@register_dataset("stripes")
class Stripes(Dataset[ImageData]):
    """Stripes that lie, and stripes that stand."""

    class Config(ComponentConfig):
        name: Literal["stripes"] = "stripes"
        count: int = Field(32, ge=2)

    def load(self):
        def part(count, seed):
            noise = torch.randint(0, 40, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
            lying = (torch.arange(8) % 2 * 200)[:, None].expand(8, 8)
            labels = torch.arange(count) % 2
            stripes = torch.where(labels[:, None, None] == 0, lying, lying.T)
            return ImageSet((noise + stripes[:, None]).to(torch.uint8), labels)

        train, test = part(self.config.count, 0), part(self.config.count // 2, 1)
        check_images(train, test, ("lying", "standing"), "stripes")
        return ImageData(train, test, ("lying", "standing"))
'''

PLUGINS = {
    "operations": ("conv_1x1_twice", OPERATION),
    "samplers": ("one_an_edge", SAMPLER),
    "tasks": ("brier", TASK),
    "data": ("stripes", DATASET),
}
"""By kind: the component's name, and the file that registers it."""

SUITES = {"operations": "ops", "samplers": "samplers", "tasks": "tasks", "data": "data"}
"""By kind: the folder of its contract suite."""


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
    """The plugin of each kind as a file."""
    paths = {}
    for kind, (name, text) in PLUGINS.items():
        paths[kind] = tmp_path / f"{name}.py"
        paths[kind].write_text(text)
    return paths


def datanas(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def listed(kind: str, *arguments: object) -> set[str]:
    code, out, err = datanas("list", kind, *arguments)
    assert (code, err) == (0, "")
    return set(out.strip().removeprefix(f"{kind}: ").split(", "))


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_file_is_listed_where_it_is_given(kind: str, files: dict[str, Path]) -> None:
    without = listed(kind)
    assert listed(kind, "--plugin", files[kind]) == {*without, PLUGINS[kind][0]}


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
    assert datanas("evaluate", "runs/train") == (0, out.splitlines()[0] + "\n", "")
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
    spoilt = DATASET.replace("        check_images", "        train.images[:] = torch.nan\n        #")
    files["data"].write_text(spoilt.replace(".to(torch.uint8)", ".float()"))
    plugins = [token for file in files.values() for token in ("--plugin", file)]
    code, out, err = datanas("search", *SETTINGS, *plugins, "--run.root", tmp_path / "runs")
    assert (code, out) == (4, "")
    assert "alpha step 1, batch 1 of pass 1 through 'alpha': the loss is nan" in err


@pytest.fixture(scope="module")
def contract_results(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the contract suites say with the plugins loaded, restricted to these."""
    root = tmp_path_factory.mktemp("plugins")
    paths = []
    for name, text in PLUGINS.values():
        paths.append(root / f"{name}.py")
        paths[-1].write_text(text)
    tests = Path(__file__).parent
    suites = [str(tests / folder / "test_contract.py") for folder in SUITES.values()]
    chosen = " or ".join(name for name, _ in PLUGINS.values())
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", chosen, *suites]
    environment = {**os.environ, "DATANAS_TEST_PLUGINS": os.pathsep.join(map(str, paths)), "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=tests.parent, env=environment, capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", PLUGINS)
def test_contract_suites_run_over_what_a_file_registers(kind: str, contract_results: str) -> None:
    suite, name = f"{SUITES[kind]}/test_contract.py::", PLUGINS[kind][0]
    lines = [line for line in contract_results.splitlines() if suite in line and name in line]
    passed = [line for line in lines if " PASSED" in line]
    assert len(passed) > 2, contract_results
    assert not [line for line in lines if " PASSED" not in line and " SKIPPED" not in line]


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "stripes_package", DATASET, monkeypatch)
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
