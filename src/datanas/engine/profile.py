"""What a rebuilt network costs on this machine."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.exhibits import FigureTable
from datanas.engine.config import resolve
from datanas.engine.data_record import recorded_sizes
from datanas.engine.earlier_run import load_run_config
from datanas.engine.evaluation import NETWORK_FILE
from datanas.engine.exhibits import timed_cost_tables
from datanas.engine.memory import inference_memory
from datanas.engine.network_recipe import NetworkRecipe
from datanas.engine.process import process_kept
from datanas.engine.rebuild import with_network_of
from datanas.engine.setup import memory_errors, select_device
from datanas.engine.width import widest
from datanas.kernels.hardware import call_seconds, count_parameters, move_to, read_macs, weight_bytes
from datanas.lookup import find_architecture
from datanas.network import Network, builder_of

BATCHES = (1, 32)
"""Examples in the forward passes that are timed where nothing is said."""
WARM_UP, REPEATS = 3, 10


@dataclass(frozen=True)
class Profile:
    """What a rebuilt network costs; `str` gives it as text.

    Attributes:
        parameters: learned numbers.
        weight_bytes: what these and the statistics of batch norm take.
        macs: multiply-adds of one example.
        example: what one is ("an image at 32x32").
        latency_ms: the median time of a forward pass in milliseconds, by the examples in it.
        least_ms: the least of the same times, which others on the machine disturb least.
        memory_bytes: the highest point of a process of its own while it builds and runs the network, by the examples;
            empty where that was not measured.
        memory_missing: why it is empty; "" where nobody asked.
        device, threads, precision: what it was timed on, and in.
        channels: width of the first cell.
        bound: multiply-adds that the width was found for; None where it was given.
        dead: what of the architecture takes no part, for people; empty where all of it does.
        pruned: whether that is left out.
        costs: multiply-adds, parameters and milliseconds of one example by part and by operation.
    """

    parameters: int
    weight_bytes: int
    macs: int
    example: str
    latency_ms: Mapping[int, float]
    least_ms: Mapping[int, float]
    memory_bytes: Mapping[int, int]
    memory_missing: str
    device: str
    threads: int
    precision: str
    channels: int
    bound: int | None
    dead: str
    pruned: bool
    costs: Sequence[FigureTable] = ()

    def to_json(self) -> str:
        """All of it; units stand in the names."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        device = self.device
        if self.device == "cpu":
            device += f", {self.threads} thread{'' if self.threads == 1 else 's'}"
        lines = [
            f"parameters     {self.parameters:,}",
            f"weights        {_bytes(self.weight_bytes)} in {self.precision}, statistics included",
            f"multiply-adds  {self.macs / 1e6:,.1f} M {self.example}",
        ]
        for batch, median in self.latency_ms.items():
            lines.append(
                f"latency        {median:.2f} ms for a batch of {batch} on {device}, {self.precision}, "
                f"median of {REPEATS} after {WARM_UP}; the least is {self.least_ms[batch]:.2f} ms"
            )
        for batch, size in self.memory_bytes.items():
            lines.append(f"memory         {_bytes(size)} to build and run it on a batch of {batch}, in its own process")
        if self.memory_missing:
            lines.append(f"memory         not measured: {self.memory_missing}")
        if self.dead:
            lines.append(f"{'left out' if self.pruned else 'dead':14s} {self.dead}")
        if self.bound is not None:
            lines.append(f"channels       {self.channels}, the most within {self.bound:,} multiply-adds")
        for table in self.costs:
            lines += ["", *_table_lines(table)]
        return "\n".join(lines)


def profile_run(
    run: Path,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    size: int | None = None,
    stem: str | None = None,
    batch: int | Sequence[int] = BATCHES,
    device: str = "auto",
    max_macs: str | int | None = None,
    *,
    threads: int | None = None,
    memory: bool = True,
) -> Profile:
    """As `profile`, of the network that a run trained, or that the recipe of a search would train.

    Whatever is given wins over the run's settings. No data are read: `data.json` says how many classes there were and
    how large an example; of a run that has none the task's usual ones are taken.

    Raises:
        CheckpointError, ConfigError: no run folder, or a value out of range; or a trained network of another shape.
        ArchitectureError: the architecture cannot be rebuilt.
    """
    architecture = find_architecture(run)
    config = with_network_of(load_run_config(run, learns=False), architecture)
    trained = (run / NETWORK_FILE).is_file()
    bound = max_macs
    if bound is None and channels is None and not trained:
        bound = config.train.max_macs  # of a search: how wide that makes the network has not been found yet
    as_trained = trained and all(value is None for value in (channels, cells, classes, stem, max_macs))
    _require_one(channels, max_macs)
    shape, outputs = recorded_sizes(run)
    options = config.task.model_dump(mode="json")
    recipe = NetworkRecipe(
        architecture,
        config.task.name,
        options if stem is None else {**options, "stem": stem},
        outputs if classes is None else classes,
        {**dict(config.train.network_config), **_given(channels=channels, cells=cells)},
        (size, size) if size is not None else None if shape is None else (shape[2], shape[1]),
        None if shape is None else shape[0],
    )
    return profile_recipe(
        recipe, batch, device, bound, threads=threads, memory=memory, weights=run / NETWORK_FILE if as_trained else None
    )


def profile(
    architecture: Architecture,
    channels: int | None = None,
    cells: int | None = None,
    classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    stem: str | None = None,
    batch: int | Sequence[int] = BATCHES,
    device: str = "auto",
    max_macs: str | int | None = None,
    *,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    in_channels: int | None = None,
    pooling_norm: bool = False,
    prune: bool = True,
    threads: int | None = None,
    memory: bool = True,
) -> Profile:
    """Parameters, multiply-adds, latency and memory of the network.

    Args:
        channels, cells, classes: as for `build_network`.
        size: height and width of the images; None for what the task takes (32).
        stem: the way in, where the task has several.
        batch: examples in the timed forward pass, or several such numbers.
        device: where it is timed.
        max_macs: multiply-adds that the network may have, such as "600M"; it becomes as wide as stays within that.
        task, options, in_channels, pooling_norm, prune: as for `build_network`; `options` are settings of the task.
        threads: of the CPU; None for as many as torch has.
        memory: measure it, in a process that takes seconds to start.

    Raises:
        ConfigError: a value out of range, or no such device; a size or a stem for a task that has none.
        ArchitectureError: the architecture cannot be rebuilt.

    >>> found = profile(datanas.architecture("gdas"), channels=4, cells=3, size=8, batch=2, memory=False)
    >>> found.parameters, list(found.latency_ms)
    (15918, [2])
    """
    given = {**(options or {}), **({} if stem is None else {"stem": stem})}
    sides = (size, size) if isinstance(size, int) else None if size is None else (size[1], size[0])
    network = {"pooling_norm": pooling_norm, "prune": prune} | _given(channels=channels, cells=cells)
    own = {name: value for name, value in network.items() if name in builder_of(architecture).Network.model_fields}
    recipe = NetworkRecipe(architecture, task, given, classes, own, sides, in_channels)
    _require_one(channels, max_macs)
    return profile_recipe(recipe, batch, device, max_macs, threads=threads, memory=memory)


@process_kept()
def profile_recipe(
    recipe: NetworkRecipe,
    batch: int | Sequence[int] = BATCHES,
    device: str = "auto",
    max_macs: str | int | None = None,
    *,
    threads: int | None = None,
    memory: bool = True,
    weights: Path | None = None,
) -> Profile:
    """As `profile`, of a network that is described already.

    Args:
        weights: the file of a trained network that has to be this one.

    Raises:
        CheckpointError: it is another one.
    """
    batches = (batch,) if isinstance(batch, int) else tuple(dict.fromkeys(batch))
    if not batches or min(batches) < 1:
        raise ConfigError(f"--batch: must be at least 1, got {min(batches, default='nothing')}")
    bound = None if max_macs is None else _bound(max_macs)
    if bound is not None:
        settings = recipe.settings
        if not settings.has_width:
            raise ConfigError("--max-macs: this network has a size of its own; leave the bound out")
        settings = settings.at_width(widest(recipe.macs, bound, settings.width, "--max-macs"))
        recipe = replace(recipe, network=dict(settings))
    macs = recipe.macs()
    where = select_device(resolve({"device": device, "threads": threads}))
    median_ms, least_ms = {}, {}
    with memory_errors(), torch.no_grad():  # not inference mode throughout: what counts hooks into autograd
        network = move_to(recipe.build(), where).eval()
        if weights is not None:
            _require_trained(network, weights)
        for count in batches:
            with torch.inference_mode():
                call = partial(recipe.infer, network, recipe.example(count, where))
                seconds = call_seconds(call, where, warm_up=WARM_UP, repeats=REPEATS)
            median_ms[count], least_ms[count] = 1000 * statistics.median(seconds), 1000 * min(seconds)
        costs = timed_cost_tables(network, recipe.example(1, where))
    used, missing = inference_memory(recipe, batches, where, torch.get_num_threads()) if memory else ({}, "")
    size = "" if recipe.size is None else f" at {recipe.size[0]}x{recipe.size[1]}"
    return Profile(
        parameters=count_parameters(network),
        weight_bytes=weight_bytes(network),
        macs=macs,
        example=f"{recipe.kind.one()}{size}",
        latency_ms=median_ms,
        least_ms=least_ms,
        memory_bytes=used,
        memory_missing=missing,
        device=str(where),
        threads=torch.get_num_threads(),
        precision=str(next(network.parameters()).dtype).removeprefix("torch."),
        channels=recipe.settings.width,
        bound=bound,
        dead=recipe.dead_parts(),
        pruned=recipe.settings.is_pruned,
        costs=costs,
    )


def _require_trained(network: Network, file: Path) -> None:
    """Make sure that a trained network has the parameters of this one; an auxiliary tower may stand beside them.

    Raises:
        CheckpointError: it has not, or the file holds none.
    """
    try:
        with safe_open(file, "pt") as tensors:
            shapes = {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except Exception as error:
        raise CheckpointError(f"{file}: not a trained network: {str(error).splitlines()[0]}") from None
    for name, parameter in network.named_parameters():
        if shapes.get(name) != list(parameter.shape):
            is_there = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise CheckpointError(
                f"{file}: does not fit the run's architecture: {name} {is_there}, not {list(parameter.shape)}"
            )


def _table_lines(table: FigureTable) -> list[str]:
    """A table of costs for a terminal: each number, and its share of its column."""
    totals = [sum(float(entry or 0) for entry in column) for column in list(zip(*table.rows, strict=True))[1:]]
    lines = ["".join([f"{table.title.lower():20s}", *(f"{name:>22s}" for name in table.columns[1:])])]
    for name, *entries in table.rows:
        line = f"{name!s:20s}"
        for entry, total in zip(entries, totals, strict=True):
            number = float(entry or 0)
            shown = f"{number:,.2f}" if isinstance(entry, float) else f"{number:,.0f}"
            line += f"{shown:>16s} {number / (total or 1):>5.0%}"
        lines.append(line)
    return [*lines, table.note] if table.note else lines


def _bytes(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def _bound(text: str | int) -> int:
    try:
        return read_macs(text)
    except ValueError as error:
        raise ConfigError(f"--max-macs: {error}") from None


def _given(**sizes: int | None) -> dict[str, int]:
    return {name: value for name, value in sizes.items() if value is not None}


def _require_one(channels: int | None, max_macs: str | int | None) -> None:
    if channels is not None and max_macs is not None:
        raise ConfigError("--channels: --max-macs finds them; give one of the two")
