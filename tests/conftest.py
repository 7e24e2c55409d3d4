"""One thread a test process, plugins to be tested, and tiny data that trains in a second.

The files that the variable DATANAS_TEST_PLUGINS names are loaded before tests are collected, so that the contract
suites run over what they register.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A job that a shell started in the background ignores SIGINT, and so would the runs that are tested here.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import config as typechecking
from jaxtyping import install_import_hook

# Shapes and types of the mathematics are checked whenever a test calls it.
MATHEMATICS = ("datanas.egs", "datanas.posterior", "datanas.draw_polynomial", "datanas.constraint", "datanas.samplers")
install_import_hook(MATHEMATICS, "typechecker.check")

import numpy as np
import pytest
import torch

from datanas.core.registry import load_plugin
from datanas.engine import untrained

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"

torch.set_num_threads(1)
untrained.PRIOR_CHILDREN = 2  # what a search begins with is tested by itself

for plugin in filter(None, os.environ.get("DATANAS_TEST_PLUGINS", "").split(os.pathsep)):
    load_plugin(plugin)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--complete", action="store_true", help="try every fault at every point (tests/faults)")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes and types are left to the functions themselves, as they are for users."""
    typechecking.update("jaxtyping_disable", True)
    yield
    typechecking.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of a pack of real data; the test is skipped where the pack is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_file():
            pytest.skip(f"{name} is not in shared/data beside the checkout")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz of 8x8 colour images in three classes that differ in brightness."""
    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 3
        noise = rng.integers(0, 60, (count, 8, 8, 3))
        return (noise + 80 * labels[:, None, None, None]).astype(np.uint8), labels

    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    (train_x, train_y), (test_x, test_y) = part(48), part(12)
    np.savez(path, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)
    return path


@pytest.fixture(scope="session")
def make_config(tiny_images: Path) -> Callable[[Path], dict[str, Any]]:
    """A whole configuration of which search and training take a second or two, for a folder of runs."""

    def make(root: Path) -> dict[str, Any]:
        return {
            "run": {"root": str(root), "name": "run", "checkpoint_every": 1},
            "device": "cpu",
            "data": {"name": "npz", "root": str(tiny_images)},
            "space": {"cells": 3, "channels": 2, "nodes": 5},
            "search": {
                "epochs": 2,
                "batch_size": 8,
                "alpha": {"lr": 0.05},
                "gap": {"children": 2, "examples": 12, "statistics_batches": 1},
            },
            "train": {"channels": 4, "cells": 3, "epochs": 2, "batch_size": 16, "auxiliary": False, "drop_path": 0.1},
            "task": {"train_augment": {"cutout": 2, "crop_padding": 1}, "search_augment": {"crop_padding": 1}},
        }

    return make


@pytest.fixture
def tiny_config(make_config: Callable[[Path], dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """The same for a folder of the test's own."""
    return make_config(tmp_path / "runs")
