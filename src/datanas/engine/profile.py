"""What a rebuilt network costs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.engine.data_record import recorded_sizes
from datanas.engine.earlier_run import load_run_config
from datanas.engine.evaluation import NETWORK_FILE
from datanas.engine.process import process_kept
from datanas.engine.rebuild import with_network_of
from datanas.engine.setup import memory_errors, select_device
from datanas.engine.width import on_meta, widest
from datanas.kernels.hardware import count_macs, count_parameters, median_seconds, peak_memory, place, read_macs
from datanas.lookup import find_architecture
from datanas.network import Network, builder_of, count_live, network_config, network_for_task, task_settings
from datanas.spaces.network_config import NetworkConfig
from datanas.tasks import tasks


def profile_run(
    run: Path,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    size: int | None = None,
    stem: str | None = None,
    batch: int = 1,
    device: str = "auto",
    max_macs: str | int | None = None,
) -> str:
    """As `profile`, of the network that a run trained, or that the recipe of a search would train.

    Whatever is given wins over the run's settings. No data are read: `data.json` says how many classes there were and
    how large an example; of a run that has none the task's usual ones are taken.

    Raises:
        CheckpointError, ConfigError: no run folder, or a value out of range.
        ArchitectureError: the architecture cannot be rebuilt.
    """
    architecture = find_architecture(run)
    config = with_network_of(load_run_config(run), architecture)
    bound = max_macs
    if bound is None and channels is None and not (run / NETWORK_FILE).is_file():
        bound = config.train.max_macs  # of a search: how wide that makes the network has not been found yet
    shape, outputs = recorded_sizes(run)
    sides = None if shape is None else (shape[1], shape[2])
    options = config.task.model_dump()
    return profile(
        architecture,
        channels,
        cells,
        outputs if classes is None else classes,
        sides if size is None else size,
        batch=batch,
        device=device,
        max_macs=bound,
        task=config.task.name,
        options=options if stem is None else {**options, "stem": stem},
        in_channels=None if shape is None else shape[0],
        settings=config.train.network_config.untowered(),
    )


@process_kept()
def profile(
    architecture: Architecture,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    stem: str | None = None,
    batch: int = 1,
    device: str = "auto",
    max_macs: str | int | None = None,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    in_channels: int | None = None,
    settings: NetworkConfig | None = None,
) -> str:
    """Parameters, multiply-adds, latency and memory of the network, as text.

    Args:
        channels, cells, classes: as for `build_network`.
        size: height and width of the images; None for what the task takes (32).
        stem: the way in, where the task has several.
        batch: examples in the timed forward pass.
        device: where it is timed.
        max_macs: multiply-adds that the network may have, such as "600M"; it becomes as wide as stays within that.
        task, options, in_channels: as for `build_network`; `options` are settings of the task.
        settings: of the network, where channels and cells are not given.

    Raises:
        ConfigError: a value out of range, or no such device; a size or a stem for a task that has none.
        ArchitectureError: the architecture cannot be rebuilt.
    """
    for label, value in (("size", size), ("batch", batch)):
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"--{label}: must be at least 1, got {value}")
    space = builder_of(architecture)
    task = space.task if task is None else task
    kind = tasks[task]
    if size is not None and kind.default_size is None:
        raise ConfigError(f"--size: {kind.one()} has none; leave it out")
    size = kind.default_size if size is None else size
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    given = {**(options or {}), **({} if stem is None else {"stem": stem})}
    sizes = {"channels": channels, "cells": cells}
    of_task = task_settings(space, task, given)
    given.pop("name", None)
    inputs = kind.inputs(kind.default_classes if classes is None else classes) if in_channels is None else in_channels

    def example(count: int, where: torch.device) -> Any:
        found = kind.example_input(of_task, inputs, max(height, width), count, where)
        return found if height == width else found[..., :height, :width].clone(memory_format=torch.channels_last)

    base = {"auxiliary": False} if settings is None else dict(settings)
    of_network = network_config(space, {**base, **{key: value for key, value in sizes.items() if value is not None}})

    def network(width: int) -> Network:
        return network_for_task(architecture, of_network.at_width(width), task, classes, in_channels, given)

    def macs_of(width: int) -> int:
        with on_meta():
            return count_macs(network(width), example(1, torch.device("meta")))

    bound = None if max_macs is None else _bound(max_macs)
    if bound is not None:
        if channels is not None:
            raise ConfigError("--channels: --max-macs finds them; give one of the two")
        of_network = of_network.at_width(widest(macs_of, bound, of_network.width, "--max-macs"))
    macs = macs_of(of_network.width)
    where = select_device(resolve({"device": device}))
    dead = count_live(architecture, of_network).text()
    with memory_errors(), torch.inference_mode():
        placed = place(network(of_network.width), where).eval()
        x = example(batch, where)
        seconds = median_seconds(lambda: placed(x), where)
    return "\n".join(
        [
            f"parameters     {count_parameters(placed):,}",
            f"multiply-adds  {macs / 1e6:,.1f} M {kind.one()}{'' if size is None else f' at {width}x{height}'}",
            f"latency        {1000 * seconds:.2f} ms for a batch of {batch} on {where}, median of 10 after 3",
            f"memory         {peak_memory(where) / 2**30:.2f} GiB at the highest point of the process",
            *([f"{'left out' if of_network.is_pruned else 'dead':14s} {dead}"] if dead else []),
            *([] if bound is None else [f"channels       {of_network.width}, the most within {bound:,} multiply-adds"]),
        ]
    )


def _bound(text: str | int) -> int:
    try:
        return read_macs(text)
    except ValueError as error:
        raise ConfigError(f"--max-macs: {error}") from None
