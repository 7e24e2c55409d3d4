"""What a rebuilt network costs on this machine."""

from __future__ import annotations

from typing import Any

import torch

from datanas.architecture import Architecture
from datanas.engine.config import resolve
from datanas.engine.process import process_kept
from datanas.engine.setup import memory_errors, select_device
from datanas.engine.width import on_meta, widest
from datanas.errors import ConfigError
from datanas.hardware import count_macs, count_parameters, median_seconds, peak_memory, place, read_macs
from datanas.network import Network, build_network, space_of, task_settings
from datanas.tasks import tasks


@process_kept()
def profile(
    architecture: Architecture,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    size: int | None = None,
    stem: str | None = None,
    batch: int = 1,
    device: str = "auto",
    max_macs: str | int | None = None,
) -> str:
    """Parameters, multiply-adds, latency and memory of the network, as text.

    Args:
        channels, cells, classes: as for `build_network`.
        size: height and width of the images; None for what the task takes (32).
        stem: the way in, where the task has several.
        batch: examples in the timed forward pass.
        device: where it is timed.
        max_macs: multiply-adds that the network may have, such as "600M"; it becomes as wide as stays within that.

    Raises:
        ConfigError: a value out of range, or no such device; a size or a stem for a task that has none.
        ArchitectureError: the architecture cannot be rebuilt.
    """
    for label, value in (("size", size), ("batch", batch)):
        if value is not None and value < 1:
            raise ConfigError(f"--{label}: must be at least 1, got {value}")
    space = space_of(architecture)
    task = tasks[space.task]
    if size is not None and task.default_size is None:
        raise ConfigError(f"--size: {task.one()} has none; leave it out")
    size = task.default_size if size is None else size
    options: dict[str, Any] = {} if stem is None else {"stem": stem}
    settings = task_settings(space, space.task, options)
    inputs = task.inputs(task.default_classes if classes is None else classes)

    def example(count: int, where: torch.device) -> Any:
        return task.example_input(settings, inputs, 1 if size is None else size, count, where)

    def network(channels: int | None) -> Network:
        return build_network(architecture, num_classes=classes, channels=channels, cells=cells, **options)

    def macs_of(channels: int | None) -> int:
        with on_meta():
            return count_macs(network(channels), example(1, torch.device("meta")))

    bound = None if max_macs is None else _bound(max_macs)
    if bound is not None:
        if channels is not None:
            raise ConfigError("--channels: --max-macs finds them; give one of the two")
        channels = widest(macs_of, bound, space.network_size[0], "--max-macs")
    macs = macs_of(channels)
    where = select_device(resolve({"device": device}))
    dead = space.count_live(architecture, space.network_size[1] if cells is None else cells).text()
    with memory_errors(), torch.inference_mode():
        placed = place(network(channels), where).eval()
        x = example(batch, where)
        seconds = median_seconds(lambda: placed(x), where)
    return "\n".join(
        [
            f"parameters     {count_parameters(placed):,}",
            f"multiply-adds  {macs / 1e6:,.1f} M {task.one()}{'' if size is None else f' at {size}x{size}'}",
            f"latency        {1000 * seconds:.2f} ms for a batch of {batch} on {where}, median of 10 after 3",
            f"memory         {peak_memory(where) / 2**30:.2f} GiB at the highest point of the process",
            *([f"left out       {dead}"] if dead else []),
            *([] if bound is None else [f"channels       {channels}, the most within {bound:,} multiply-adds"]),
        ]
    )


def _bound(text: str | int) -> int:
    try:
        return read_macs(text)
    except ValueError as error:
        raise ConfigError(f"--max-macs: {error}") from None
