"""Faults from outside: a tiny run on scikit-learn's digits, or on a text, as a process of its own, and what it leaves.

`--complete` tries every point; without it a few of each kind. The end of the session prints a table of both.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.faults import faulty
from tests.faults.trial import Outcome, Started, Tally, as_torchrun_would

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
def domain(request: pytest.FixtureRequest) -> str:
    """What runs are about: images, or by `parametrize` the language."""
    return str(getattr(request, "param", "images"))


ANY = {"run.checkpoint_every": 1, "device": "cpu", "threads": 1, "search.epochs": 4, "train.epochs": 4}
IMAGES = {
    "sampler.prior.children": 2,
    "data.name": "npz",
    "space.cells": 3,
    "space.channels": 2,
    "space.nodes": 4,
    "space.primitives": '["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]',
    "search.batch_size": 20,
    "search.alpha.lr": 0.05,
    "search.gap.children": 2,
    "search.gap.examples": 20,
    "search.gap.statistics_batches": 1,
    "train.batch_size": 32,
    "train.cells": 3,
    "train.channels": 4,
    "train.auxiliary": "false",
    "train.validation": 0.2,
    "train.ema": 0.9,
    "task.search_augment.crop_padding": 1,
    "task.train_augment": '{"crop_padding": 1, "cutout": 2}',
}
LANGUAGE = {
    "run.checkpoint_minutes": 1e-9,  # after every step: hidden state is carried within an epoch
    "data.name": "manual",
    "data.max_vocabulary": 60,
    "task.name": "language",
    "task.sequence": 15,
    "space.hidden": 4,
    "space.nodes": 6,
    "search.batch_size": 8,
    "search.examples": 600,
    "search.weights.lr": 5,
    "search.alpha.lr": 0.05,
    "search.gap.children": 2,
    "search.gap.examples": 100,
    "train.batch_size": 1680,
    "train.channels": 4,
    "train.weights.lr": 300,  # so large that the third epoch is worse than the first, and averaging begins
    "train.average_after": 1,
}


@pytest.fixture(scope="session")
def tiny(domain: str, request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Arguments of a run of 12 steps in 4 epochs, a second's work, in a folder."""
    settings: dict[str, object]
    if domain == "language":
        settings = {**ANY, **LANGUAGE}
    else:
        settings = {**ANY, **IMAGES, "data.root": request.getfixturevalue("digits")}

    def make(root: Path, name: str = "run") -> list[str]:
        own = {"run.root": root, "run.name": name, **settings}
        return ["--quiet", *(text for key, value in own.items() for text in (f"--{key}", str(value)))]

    return make


@pytest.fixture
def arguments(tiny: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    """Those of a run in tmp_path/run."""
    return tiny(tmp_path)


def undisturbed(server: Any, tiny: Callable[..., list[str]], root: Path, processes: int) -> Mapping[str, Path]:
    """A search and a training of what it found."""
    steps: dict[str, list[str]] = {"search": [], "train": [str(root / "search")]}
    for kind, more in steps.items():
        places = as_torchrun_would(processes) if processes > 1 else [{}]
        started = []
        for rank, place in enumerate(places):
            output = root / f"{kind}-{rank}"
            given = [kind, *more, *tiny(root, kind)]
            process = server.Process(target=faulty.run_command, args=(given, {}, str(output), place))
            started.append(Started(process, output))
            started[-1].process.start()
        for each in started:
            outcome = each.end()
            assert outcome.code == 0, outcome.err
    return {"search": root / "search", "train": root / "train"}


@pytest.fixture(scope="session")
def reference(
    fork_server: Any, tiny: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """A search and a training that nothing disturbed; only to be read."""
    return undisturbed(fork_server, tiny, tmp_path_factory.mktemp("reference"), 1)


@pytest.fixture(scope="session")
def pair(
    fork_server: Any, tiny: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """The same by two processes."""
    return undisturbed(fork_server, tiny, tmp_path_factory.mktemp("pair"), 2)


@pytest.fixture
def begin_two(begin: Callable[..., Started]) -> Callable[..., tuple[Started, Started]]:
    """Start two processes of one command; `faults` lie in the way of one of them alone."""

    def start(
        *arguments: object, faults: Mapping[int, Mapping[str, object]] | None = None, **common: object
    ) -> tuple[Started, Started]:
        more = faults or {}
        first, second = (
            begin(*arguments, environment=place, **common, **more.get(rank, {}))
            for rank, place in enumerate(as_torchrun_would(2))
        )
        return first, second

    return start


@pytest.fixture
def two(begin_two: Callable[..., tuple[Started, Started]]) -> Callable[..., tuple[Outcome, Outcome]]:
    """Run two processes of one command to their ends."""

    def run(*arguments: object, **more: object) -> tuple[Outcome, Outcome]:
        first, second = begin_two(*arguments, **more)
        return first.end(), second.end()

    return run


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
