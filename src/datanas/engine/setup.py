"""From a configuration to the things that a loop needs: device, task, space, sampler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from datanas.codes.accuracy_table import AccuracyTable
from datanas.core import seeding
from datanas.core.errors import ConfigError, OutOfMemoryError, nearest
from datanas.core.joining import join
from datanas.core.processes import ALONE, Processes, ProcessGroup
from datanas.data import datasets
from datanas.engine.config import Config
from datanas.engine.process import configure_process
from datanas.kernels.hardware import unusable_because
from datanas.samplers import samplers
from datanas.samplers.interface import BaseSampler
from datanas.spaces import spaces
from datanas.spaces.base import Space
from datanas.tasks import tasks
from datanas.tasks.base import Task


def select_device(config: Config) -> torch.device:
    """The device that the configuration asks for; `auto` takes a GPU where there is one.

    Raises:
        ConfigError: no such device here.
    """
    device = usable_device(config.device)
    configure_process(threads=config.threads, deterministic=config.deterministic, device=device)
    return device


def usable_device(name: str) -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one.

    Raises:
        ConfigError: no such device here.
    """
    name = _device_name(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(f"device: {name!r} cannot be used here: {unusable_because(name, error)}") from None
    return device


def _device_name(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def start(config: Config) -> tuple[Processes, torch.device]:
    """The processes that the configuration asks for, and the device of this one.

    Raises:
        ConfigError: no such devices here.
        ProcessLostError: a process does not come.
    """
    # The kind alone: each of several processes touches no device but its own.
    kind, _, index = _device_name(config.device).partition(":")
    if index and config.devices * config.num_nodes > 1:
        raise ConfigError(f"device: {config.device} is one device, but devices asks for {config.devices}; say {kind}")
    processes = join(kind, config.devices, config.num_nodes, config.process_timeout)
    if not isinstance(processes, ProcessGroup):
        return processes, select_device(config)
    configure_process(threads=config.threads, deterministic=config.deterministic, device=processes.device)
    return processes, processes.device


def load_task(config: Config, device: torch.device, processes: Processes = ALONE) -> Task[Any]:
    """Load the data and set up the task on it.

    Raises:
        DataError: the data is missing, broken or unsuitable.
        ConfigError: the task does not take data of that kind.
    """
    data = datasets[config.data.name](config.data).load()
    task: Task[Any] = tasks[config.task.name](config.task, data, device, config.seed)
    task.processes = processes
    return task


def load_table(config: Config) -> AccuracyTable | None:
    """The table of known accuracies that the configuration names, checked against its space.

    Raises:
        DataError: the table is missing or broken.
        ConfigError: it is not one of this space, or has no such metric.
    """
    if config.truth.table is None:
        return None
    groups = build_space(config).groups()
    group = next(iter(groups.values()))
    if len(groups) > 1 or not group.single:
        raise ConfigError(
            f"truth.table: a table holds cells of one operation an edge, which space {config.space.name} does not have"
        )
    table = AccuracyTable.load(config.truth.table, group.primitives)
    if tuple(map(tuple, table.edges)) != group.edges:
        raise ConfigError(
            f"truth.table: {config.truth.table} has the edges {table.edges}, space {config.space.name} {group.edges}"
        )
    metric = config.truth.metric
    if metric is not None and metric not in table.metrics:
        raise ConfigError(f"truth.metric: {config.truth.table} has no {metric!r}; {nearest(metric, table.metrics)}")
    table.best(metric or table.default_metric)  # a number that is missing is told now, not after the search
    return table


def build_space(config: Config) -> Space:
    """The search space, without a supernet."""
    make: Any = spaces[config.space.name]
    space: Space = make(config.space)
    return space


def build_sampler(config: Config, space: Space) -> BaseSampler:
    """The search method with fresh alphas, keyed by the seed."""
    make: Any = samplers[config.sampler.name]
    with seeding.keyed(config.seed, "alpha"):
        sampler: BaseSampler = make(config.sampler, space.groups(), space.name)
    if space.combines:
        sampler.normalise = "sum"
    return sampler


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn torch's and Python's out-of-memory errors of the block into ours."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(f"{str(error).splitlines()[0]} Try a smaller batch_size, channels or cells.") from None
    except MemoryError as error:
        if isinstance(error, OutOfMemoryError):
            raise
        raise OutOfMemoryError("out of memory. Try a smaller batch_size, channels or cells.") from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error) and "out of memory" not in str(error):
            raise
        raise OutOfMemoryError("out of memory. Try a smaller batch_size, channels or cells.") from None
