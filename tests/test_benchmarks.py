"""The benchmarks run, and write the figures that are relied upon; what they measure is not asserted."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import equal_macs, textbook
from benchmarks.choice_step import PRIMITIVES, ChoiceStep
from benchmarks.search_step import SparseStep
from benchmarks.train_step import textbook_network

from datanas import architecture, build_network

NAMES = sorted(
    path.stem
    for path in Path(textbook.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "textbook", "measuring")
)
TINY = ("--channels", "2", "--cells", "3", "--batch", "4", "--size", "8", "--rounds", "1", "--threads", "1")


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_says_how_it_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "nasbench_graph":
        pytest.importorskip("torch_geometric")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


def test_the_search_step_writes_its_figures(tmp_path: Path) -> None:
    run("search_step", *TINY, "--gradient", "subsampled", "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"dense_s", "sparse_s", "ratio", "dense_gb", "sparse_gb"} <= set(found)
    assert (found["scope"], found["M"], found["gradient"]) == ("node", 4, "subsampled 0.25")
    assert found["ratio"] == pytest.approx(found["dense_s"] / found["sparse_s"])
    assert 0.1 < found["sparse_gb"] < 4


def test_the_train_step_writes_its_figures(tmp_path: Path) -> None:
    run("train_step", *TINY, "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["datanas_images_per_s"] > 0
    assert found["datanas_ratio"] == pytest.approx(found["datanas_images_per_s"] / found["plain_images_per_s"])


def test_cells_of_equal_multiply_adds_are_kept_by_row_and_seed() -> None:
    def of(accuracy: float) -> dict[str, float]:
        return {"accuracy": accuracy, "macs": round(1000 * accuracy)}

    names = "searched: likeliest within 60% of its multiply-adds", "searched: likeliest", "random 0", "random 1"
    found = {seed: {name: of(10.0 * seed + place + 0.001) for place, name in enumerate(names)} for seed in (3, 4)}
    found[4]["searched: likeliest within 20% of its multiply-adds"] = of(99.0)  # which not every seed has
    kept = equal_macs.summary(found)
    assert kept["seeds"] == [3, 4]
    assert kept["kept"] == {"within 60 %": [30, 40], "likeliest": [31, 41]}
    assert kept["random"] == [[32, 33], [42, 43]]
    assert kept["macs"]["within 60 %"] == [30001, 40001]
    assert kept["macs"]["random"] == [[32001, 33001], [42001, 43001]]
    assert equal_macs.ahead([*found.values()], names[0]) == pytest.approx([-2.5, -2.5])


@pytest.mark.parametrize("name", ["darts_v2", "darts_v1", "gdas"])
def test_the_textbook_network_is_the_rebuilt_one(name: str) -> None:
    chosen = architecture(name)
    torch.manual_seed(0)
    network = build_network(chosen, channels=4, cells=3).double().to(memory_format=torch.channels_last)
    plain = textbook_network(chosen, 4, 3).double()
    textbook.copy_weights(network, plain)
    x = torch.randn(3, 3, 8, 8, dtype=torch.double)
    found, expected = network(x.contiguous(memory_format=torch.channels_last)), plain(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), list(network.parameters())),
        torch.autograd.grad(expected.square().sum(), list(plain.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_choice_step_writes_its_figures(tmp_path: Path) -> None:
    run("choice_step", *TINY, "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ratio"] == pytest.approx(found["choices_s"] / found["built_in_s"])


def test_a_module_with_choices_learns_what_the_built_in_space_learns() -> None:
    options = argparse.Namespace(
        channels=4, cells=3, batch=4, size=8, samples=2, seed=0, scope="edge", gradient="exact", share=1.0
    )
    steps = SparseStep(options, PRIMITIVES), ChoiceStep(options, PRIMITIVES)
    gradients = []
    for step in steps:
        step.weight_step()
        step.alpha_step()
        gradients.append([alpha.grad for alpha in step.alphas])
    for built_in, choices in zip(*gradients, strict=True):
        assert built_in is not None
        torch.testing.assert_close(choices, built_in, rtol=1e-3, atol=1e-5)
