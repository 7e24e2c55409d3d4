"""An author runs the suites as CONTRIBUTING.md shows: a good plugin passes, of a wrong one they say what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONTRIBUTING = TESTS.parent / "CONTRIBUTING.md"

WRONG = {
    "conv_1x1_twice": ("layer(settings.stride), layer(1)", "layer(1), layer(1)"),
    "one_an_edge": ("generator=generator", "generator=None"),
    "brier": (".sum(dim=1).mean()", ".sum(dim=1).sum()"),
    "stripes": ("generator=torch.Generator().manual_seed(seed)", "generator=None"),
    "chain": ("operation_cost(primitive, self.width, 1, size)", "operation_cost(primitive, 2 * self.width, 1, size)"),
    "one_conv": ("self.conv(stem[1])", "self.conv(stem[1] - stem[1].mean(dim=0))"),
}
"""By plugin: what is right in its file, and what makes it wrong."""

TOLD = {
    "conv_1x1_twice": ("test_shape_follows_stride", "of 8x8 stride 2 makes 4x4, channels stay"),
    "one_an_edge": ("test_a_draw_takes_no_chance_from_elsewhere", "draw from the generator that is given"),
    "brier": ("test_the_losses_of_two_shares_average", "a loss must be the mean of its batch"),
    "stripes": ("test_loading_again_gives_the_same", "it draws from torch's generator of the process"),
    "chain": ("test_costs_add_up_to_the_parameters", "parameters; by `costs` it would have"),
    "one_conv": ("test_rows_of_a_batch_do_not_mix", "an example's output depends on the others of its batch"),
}
"""By plugin: the test that fails then, and what it says."""


def author(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder of plugins beside the tests of CONTRIBUTING.md."""
    (example,) = re.findall(r"## Test what you have added.*?```python\n(.*?)```", CONTRIBUTING.read_text(), re.S)
    (folder / "test_plugins.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_good_plugins_pass(tmp_path: Path) -> None:
    for file in (TESTS / "plugins").glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text())
    done = author(tmp_path, "-v")
    assert done.returncode == 0, done.stdout
    for name in WRONG:
        assert len(re.findall(rf"\[{name}\b.* PASSED", done.stdout)) > 2, done.stdout


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of six wrong plugins."""
    folder = tmp_path_factory.mktemp("wrong")
    for name, (right, wrong) in WRONG.items():
        text = (TESTS / "plugins" / f"{name}.py").read_text()
        assert right in text
        (folder / f"{name}.py").write_text(text.replace(right, wrong))
    done = author(folder, "-q", "-k", " or ".join(test for test, _ in TOLD.values()))
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", WRONG)
def test_of_a_wrong_plugin_is_told_what_is_wrong(name: str, told: str) -> None:
    test, message = TOLD[name]
    failures = re.split(r"^_+ (Test\S+) _+$", told, flags=re.M)
    texts = [text for title, text in zip(failures[1::2], failures[2::2], strict=True) if name in title]
    assert texts, told
    assert any(test in text and message in text for text in texts), "\n".join(texts)


def test_without_names_the_suite_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from datanas.testing import OperationContract\n\n\nclass TestMine(OperationContract):\n    names = 'conv'\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "TestMine.names: must list the names that are to be tested, got 'conv'" in done.stdout + done.stderr


def test_without_pytest_is_said_what_is_missing() -> None:
    script = "import sys; sys.modules['pytest'] = None; import datanas.testing"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "datanas.testing needs pytest, which is not installed; pip install 'datanas[testing]'" in done.stderr
