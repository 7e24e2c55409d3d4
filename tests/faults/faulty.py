"""The process that a fault test starts: the command line, with faults laid in its way.

A fork server loads this file once, and every process begins as its copy; so it imports early what a run would late.
"""

from __future__ import annotations

import builtins
import errno
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

import datanas.engine.train
import datanas.fitting.fit
import datanas.racing.search
import datanas.runs.events
from datanas.cli import main
from datanas.codes.published import published
from datanas.core import atomic, seeding
from datanas.core.errors import ConfigError, DataError
from datanas.data import datasets
from datanas.engine import run, steps
from datanas.engine.config import resolve
from datanas.engine.search import SearchJob
from datanas.engine.train import TrainJob
from datanas.ops import operations
from datanas.ops.activations import activations
from datanas.references import references
from datanas.report.cells import draw_cells
from datanas.runs import checkpoint, metrics
from datanas.samplers import samplers
from datanas.spaces import spaces
from datanas.tasks import tasks
from datanas.tasks.classification import Classification

JOBS: dict[str, Any] = {"search": SearchJob, "train": TrainJob}


def run_command(arguments: list[str], fault: Mapping[str, Any], output: str, environment: Mapping[str, str]) -> None:
    """Run `datanas ARGUMENTS` as this process, its output in `output`.out and `output`.err."""
    torch.set_num_threads(1)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    for name, value in fault.items():
        FAULTS[name](value)
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def load_all() -> None:
    """Import every component and draw a picture, which a process would do in half of its time."""
    resolve({})
    for components in (operations, activations, samplers, spaces, datasets, tasks, references):
        list(components)
    with tempfile.TemporaryDirectory() as folder:
        cell = published("data_m7")
        assert cell is not None
        draw_cells(cell, Path(folder) / "cells.svg")
    gc.freeze()  # else the first collection of every process copies all of this


def do_nothing() -> None:
    """For a first process, so that the server stands."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_step(number: int) -> None:
    """SIGKILL once so many steps of this process are made."""
    after_step(number, die)


def signal_after_step(given: list[int]) -> None:
    """Send a signal once so many steps of this process are made: [step, signal]."""
    number, signum = given
    after_step(number, lambda: os.kill(os.getpid(), signum))


def after_step(number: int, act: Callable[[], None]) -> None:
    for job in JOBS.values():
        original, made = job.step, count(1)

        def step(self: Any, step: int, original: Any = original, made: Iterator[int] = made) -> Any:
            figures = original(self, step)
            if next(made) == number:
                act()
            return figures

        job.step = step


def kill_before_weight_step(number: int) -> None:
    """SIGKILL between the alpha step and the weight step of so-and-so many steps."""
    original, made = SearchJob._weight_step, count(1)

    def weight_step(self: Any, *given: Any, **more: Any) -> Any:
        if next(made) == number:
            die()
        return original(self, *given, **more)

    SearchJob._weight_step = weight_step


def kill_at_point(given: list[Any]) -> None:
    """SIGKILL at the n-th point of storage work inside a place: [place, n]."""
    place, number = given
    points = count(1)
    watch_storage(place, lambda what: die() if next(points) == number else None)


def list_points(given: list[str]) -> None:
    """Write the names of all points of storage work inside a place to a file: [place, file]."""
    place, file = given

    def note(what: str) -> None:
        with builtins.open(file, "a") as notes:
            notes.write(f"{what}\n")

    watch_storage(place, note)


def signal_at_point(given: list[Any]) -> None:
    """Two signals at the n-th point of storage work inside a place: [place, n, signal]."""
    place, number, signum = given
    points = count(1)

    def act(what: str) -> None:
        if next(points) == number:
            os.kill(os.getpid(), signum)
            os.kill(os.getpid(), signum)

    watch_storage(place, act)


def watch_storage(place: str, act: Callable[[str], None]) -> None:
    """Call `act` before and after each write (and in its middle), fsync, rename, creation and removal.

    Args:
        place: "save": inside the saving of a checkpoint, from the second of this process on where there are two;
            "all": everywhere.
    """
    inside = [place == "all"]

    def point(what: str) -> None:
        if inside[0]:
            act(what)

    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        original = getattr(os, name)

        def call(*given: Any, name: str = name, original: Any = original, **more: Any) -> Any:
            point(f"before {name}")
            result = original(*given, **more)
            point(f"after {name}")
            return result

        setattr(os, name, call)

    class File:
        """A file of which a write can be cut in two."""

        def __init__(self, path: Any, mode: str, **options: Any) -> None:
            self._file = builtins.open(path, mode, **options)  # noqa: SIM115

        def write(self, data: bytes) -> int:
            point("before write")
            half = len(data) // 2
            self._file.write(data[:half])
            self._file.flush()
            point("half of write")
            self._file.write(data[half:])
            self._file.flush()
            point("after write")
            return len(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    atomic.open = metrics.open = File  # type: ignore[attr-defined]

    @contextmanager
    def watched() -> Iterator[None]:
        before, inside[0] = inside[0], True
        try:
            yield
        finally:
            inside[0] = before

    if place == "save":
        save = checkpoint.save_checkpoint

        def save_watched(*given: Any, **more: Any) -> None:
            with watched():
                save(*given, **more)

        vars(run)["save_checkpoint"] = save_watched


def forget(key: str) -> None:
    """Lose one key of the state on the way back: the negative control of every resumption."""
    for job in JOBS.values():

        def load(self: Any, state: Mapping[str, Any], original: Any = job.load_state) -> None:
            original(self, {**state, key: self.state()[key]} if key in state else state)

        job.load_state = load
    if key in ("sums", "count"):
        read = vars(run)["load_job_state"]

        def load_job_state(*given: Any, **more: Any) -> Any:
            step, saved = read(*given, **more)
            return step, {**saved, key: {} if key == "sums" else 0}

        vars(run)["load_job_state"] = load_job_state


def poison(given: list[Any]) -> None:
    """Make something that is not finite: [where, step, value]; where is loss, gradient or alpha."""
    where, number, value = given
    if where == "alpha":
        original_step, made = torch.optim.Adam.step, count(1)

        def step(self: Any, closure: Any = None) -> Any:
            result = original_step(self, closure)
            if next(made) == number:
                for group in self.param_groups:
                    group["params"][0].data.view(-1)[0] = float(value)
            return result

        torch.optim.Adam.step = step
        return
    average = steps.Averaging.__call__
    calls = count(1)

    def poisoned(self: Any, loss: Any, gradients: Any) -> Any:
        gradients = list(gradients)
        is_now = next(calls) == number
        if is_now and where == "gradient":
            next(g for g in gradients if g is not None).view(-1)[0] = float(value)
        mean = average(self, loss, gradients)
        return mean + float(value) if is_now and where == "loss" else mean

    steps.Averaging.__call__ = poisoned


def fill_disk(given: list[Any]) -> None:
    """Leave no room on a file system once so many steps are made: [step, folder]."""
    number, folder = given

    def fill() -> None:
        with builtins.open(Path(folder) / "ballast", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    after_step(number, fill)


def read_only_after_step(given: list[Any]) -> None:
    """Let nothing new be written to a folder once so many steps are made: [step, folder]."""
    number, folder = given

    def seal() -> None:
        # A file system that has files open for writing is not made read-only, but a second mount of it may be.
        for options in (["--bind"], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *options, folder, folder], check=True)

    after_step(number, seal)


def no_events(_: object) -> None:
    """TensorBoard's file cannot be written."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    datanas.runs.events.EventFile.__init__ = refuse


def wait_in_step(given: list[Any]) -> None:
    """Stop in a step until a file is there: [step, file to write, file to wait for]."""
    number, here, there = given

    def wait() -> None:
        Path(here).touch()
        while not Path(there).exists():
            time.sleep(0.01)

    after_step(number, wait)


def still_statistics(_: object) -> None:
    """Batch norms keep to their first statistics, so that no example of a batch sees another."""
    from torch.nn.modules.batchnorm import _BatchNorm

    def train(self: Any, mode: bool = True) -> Any:
        return torch.nn.Module.train(self, False)

    _BatchNorm.train = train
    original = SearchJob.__init__

    def begin(self: Any, *given: Any, **more: Any) -> None:
        original(self, *given, **more)
        self.supernet.train()

    SearchJob.__init__ = begin


def record_alphas(file: str) -> None:
    """Write the alphas after each step to a file, a line each; each process its own."""
    original = SearchJob.step

    def recorded(self: Any, step: int) -> Any:
        figures = original(self, step)
        values = [value.tolist() for value in self.sampler.parameters()]
        with builtins.open(f"{file}.{os.environ.get('RANK', '0')}", "a") as lines:
            lines.write(json.dumps(values) + "\n")
        return figures

    SearchJob.step = recorded


def small_evaluation(size: int) -> None:
    """Evaluate in batches of so many examples, so that every process has some."""
    from datanas.tasks import image_task

    image_task.EVALUATION_BATCH = size


def other_data(root: str) -> None:
    """Read the data from elsewhere than the run says, as a machine would whose copy is another."""
    original = vars(datanas.engine.search)["load_task"]

    def load_task(config: Any, *more: Any) -> Any:
        data = config.data.model_copy(update={"root": Path(root)})
        return original(config.model_copy(update={"data": data}), *more)

    vars(datanas.engine.search)["load_task"] = load_task


def record_numbers(file: str) -> None:
    """Write what a process draws in each training step, and a sum of its buffers after it, a line each."""
    original_loss, original_step = Classification.loss, TrainJob.step

    def loss(self: Any, model: Any, batch: Any) -> Any:
        drawn.append(float(torch.rand((), generator=seeding.current())))
        return original_loss(self, model, batch)

    def recorded(self: Any, step: int) -> Any:
        drawn.clear()
        figures = original_step(self, step)
        buffers = [value.double().sum() for value in self.network.buffers()]
        with builtins.open(f"{file}.{os.environ.get('RANK', '0')}", "a") as lines:
            lines.write(json.dumps([drawn[0], float(torch.stack(buffers).sum())]) + "\n")
        return figures

    drawn: list[float] = []
    Classification.loss, TrainJob.step = loss, recorded


def signal_twice_in_step(given: list[Any]) -> None:
    """After so many steps send two signals, the second while the process waits for the others: [step, signal]."""
    number, signum = given

    def act() -> None:
        os.kill(os.getpid(), signum)
        # From another thread, once this one waits where Python hears nothing.
        threading.Timer(1.0, os.kill, (os.getpid(), signum)).start()

    after_step(number, act)


def sleep_in_step(given: list[Any]) -> None:
    """Be late after so many steps: [step, seconds]."""
    number, seconds = given
    after_step(number, lambda: time.sleep(seconds))


def only_in(given: list[Any]) -> None:
    """A fault for one of the processes that a run starts itself: [local rank, fault, its value]."""
    rank, name, value = given
    if os.environ.get("LOCAL_RANK", "0") == str(rank):
        FAULTS[name](value)


def run_in_group(scenario: str, output: str, environment: Mapping[str, str]) -> None:
    """Join the others and let something happen in one of them; writes what this one sees."""
    from datanas.core.joining import join

    os.environ.update(environment)
    processes = join("cpu", 1, 1, 60.0)
    try:
        result = SCENARIOS[scenario](processes)
    except BaseException as error:
        result = f"{type(error).__name__} {getattr(error, 'exit_code', '')} {error}"
    Path(output).write_text(json.dumps(result))
    processes.gather(torch.zeros(()))
    os._exit(0)


def one_fails_together(processes: Any) -> str:
    """The second alone fails."""
    with processes.together():
        if processes.rank == 1:
            raise ConfigError("mine")
    return "went on"


def both_fail_together(processes: Any) -> str:
    with processes.together():
        raise ConfigError("ours")


def first_fails(processes: Any) -> str:
    def work() -> bytes:
        raise DataError("bad")

    return str(processes.first(work))


def exchanges(processes: Any) -> list[Any]:
    """Averages of two kinds of numbers, a sum, what is gathered, and what the first sends."""
    rank = float(processes.rank)
    tensors = [torch.full((2,), rank), torch.tensor(rank + 5, dtype=torch.float64), torch.full((1, 2), 10 * rank)]
    processes.average(tensors)
    assert tensors[1].dtype == torch.float64
    found = [tensor.flatten().tolist() for tensor in tensors]
    total, gathered = processes.total(torch.tensor([rank, 1.0])), processes.gather(torch.tensor([processes.rank]))
    sent = [processes.first(lambda: bytes(range(200))), processes.first(bytes)]
    return [found, total.tolist(), gathered.tolist(), [list(each) for each in sent]]


def joins_again(processes: Any) -> list[Any]:
    from datanas.core.joining import join

    return [join("cpu", 2, 1, 60.0) is processes, joined_as("cuda", 2), joined_as("cpu", 1), joined_as("cpu", 3)]


def joined_as(kind: str, devices: int) -> str:
    from datanas.core.joining import join

    try:
        return str(join(kind, devices, 1, 60.0).size)
    except ConfigError as error:
        return str(error)


SCENARIOS: dict[str, Callable[[Any], Any]] = {
    each.__name__: each for each in (one_fails_together, both_fail_together, first_fails, exchanges, joins_again)
}


def race_inside(_: bool) -> None:
    """Make the trainings of a race in this process, so that other faults reach them too."""
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.inside import Inside

    from datanas.comparison import pool

    pool._start = Inside().start
    pool._POLL = 0.0


FAULTS: dict[str, Callable[[Any], None]] = {
    each.__name__: each
    for each in (
        kill_after_step,
        signal_after_step,
        kill_before_weight_step,
        kill_at_point,
        list_points,
        signal_at_point,
        forget,
        poison,
        fill_disk,
        read_only_after_step,
        no_events,
        wait_in_step,
        still_statistics,
        record_alphas,
        record_numbers,
        other_data,
        small_evaluation,
        signal_twice_in_step,
        sleep_in_step,
        only_in,
        race_inside,
    )
}

if __name__ == "faulty":  # as the fork server loads it
    load_all()
