"""Faults from outside: a tiny run on scikit-learn's digits as a process of its own, and what it leaves behind.

`--complete` tries every point; without it a few of each kind. The end of the session prints a table of both.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest
from trial import Outcome, Started, Tally

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def fork_server() -> Any:
    """Makes processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faulty"])
    # The server looks for what it preloads where Python looks, not where this process does.
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), before]))
    context.Process(target=faulty.do_nothing).start()
    os.environ["PYTHONPATH"] = before
    return context


@pytest.fixture
def begin(fork_server: Any, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start `datanas ARGUMENTS` with faults, without waiting."""
    started: list[Started] = []

    def start(*arguments: object, environment: Mapping[str, str] | None = None, **fault: object) -> Started:
        output = tmp_path / f"process-{len(started)}"
        given = ([str(argument) for argument in arguments], fault, str(output), dict(environment or {}))
        process = fork_server.Process(target=faulty.run_command, args=given)
        process.start()
        started.append(Started(process, output))
        return started[-1]

    yield start
    for each in started:
        if each.process.is_alive():
            each.process.kill()
            each.process.join()


@pytest.fixture
def command(begin: Callable[..., Started]) -> Callable[..., Outcome]:
    """Run `datanas ARGUMENTS` with faults to its end."""
    return lambda *arguments, **fault: begin(*arguments, **fault).end()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 training and 40 test images of scikit-learn's digits as an .npz."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * 15).astype(np.uint8)[..., None]
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(
        path, train_x=images[:120], train_y=found.target[:120], test_x=images[120:160], test_y=found.target[120:160]
    )
    return path


@pytest.fixture(scope="session")
def tiny(digits: Path) -> Callable[[Path], list[str]]:
    """Arguments of a run of 12 steps in 4 epochs, a second's work, in a folder."""

    def make(root: Path, name: str = "run") -> list[str]:
        settings = {
            "run.root": root,
            "run.name": name,
            "run.checkpoint_every": 1,
            "device": "cpu",
            "threads": 1,
            "data.name": "npz",
            "data.root": digits,
            "space.cells": 3,
            "space.channels": 2,
            "space.nodes": 4,
            "space.primitives": '["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]',
            "search.epochs": 4,
            "search.batch_size": 20,
            "search.alpha.lr": 0.05,
            "search.gap.children": 2,
            "search.gap.examples": 20,
            "search.gap.statistics_batches": 1,
            "train.epochs": 4,
            "train.batch_size": 32,
            "train.cells": 3,
            "train.channels": 4,
            "train.auxiliary": "false",
            "train.validation": 0.2,
            "train.ema": 0.9,
            "task.search_augment.crop_padding": 1,
            "task.train_augment": '{"crop_padding": 1, "cutout": 2}',
        }
        return ["--quiet", *(text for key, value in settings.items() for text in (f"--{key}", str(value)))]

    return make


@pytest.fixture
def arguments(tiny: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    """Those of a run in tmp_path/run."""
    return tiny(tmp_path)


@pytest.fixture(scope="session")
def reference(
    fork_server: Any, tiny: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """A search and a training of what it found that nothing disturbed; only to be read."""
    root = tmp_path_factory.mktemp("reference")
    for kind, more in (("search", []), ("train", [str(root / "search")])):
        output = root / f"{kind}-process"
        given = ([kind, *more, *tiny(root, kind)], {}, str(output), {})
        started = Started(fork_server.Process(target=faulty.run_command, args=given), output)
        started.process.start()
        outcome = started.end()
        assert outcome.code == 0, outcome.err
    return {"search": root / "search", "train": root / "train"}


@pytest.fixture
def begun(reference: Mapping[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the reference as it was before its last epoch ended, in tmp_path/run."""

    def make(kind: str = "search") -> Path:
        run = Path(shutil.copytree(reference[kind], tmp_path / "run"))
        shutil.rmtree(max((run / "checkpoints").iterdir()))
        for name in ("architecture.json",) if kind == "search" else ("network.safetensors", "evaluation.json"):
            (run / name).unlink()
        return run

    return make


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    return Tally(record_property)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("complete", default=False):
        return
    chosen = [item for item in items if item.get_closest_marker("complete") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which faults were tried how often, and how often they were survived."""
    trials: dict[str, list[bool]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "fault" and report.when == "call":
                    trials.setdefault(value[0], []).append(value[1])
    if not trials:
        return
    width = max(map(len, trials))
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line(f"{'fault':{width}}  tried  survived")
    for fault in sorted(trials, key=lambda text: (int(text.split(".")[0]), text)):
        terminalreporter.write_line(f"{fault:{width}}  {len(trials[fault]):5d}  {sum(trials[fault]):8d}")
