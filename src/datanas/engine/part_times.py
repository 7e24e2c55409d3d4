"""How long a forward pass is in each part of a network and in each operation, here and now."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datanas.kernels.hardware import synchronize
from datanas.kernels.mixed import MixedNode
from datanas.runs.environment import cpu_model

INPUTS, SUMS, REST = "inputs of a cell", "sums of a cell", "outside the cells"
FEWEST, MOST = 3, 9
"""Rounds of passes."""
SECONDS = 1.0
"""After which no further round begins."""


@dataclass(frozen=True)
class PartTimes:
    """Medians in milliseconds of a batch of one.

    Attributes:
        by_part: the stem, each cell, what of the body is in no cell, and the head.
        by_operation: each operation, what a cell does to its inputs before (`INPUTS`), its sums and all else in it
            (`SUMS`), and what is in no cell (`REST`); empty of a network without operations.
        whole_ms: of passes in which no part is timed.
        rounds: passes of each kind.
        hardware: device, threads and machine.
    """

    by_part: Mapping[str, float]
    by_operation: Mapping[str, float]
    whole_ms: float
    rounds: int
    hardware: str

    def note(self, times: Mapping[str, float]) -> str:
        """What the times are of, and how their sum stands to a whole pass."""
        total = sum(times.values())
        return (
            f"Milliseconds of a batch of one on {self.hardware}, warm, the median of {self.rounds} passes. Together "
            f"{total:.3g} ms, {total / self.whole_ms:.0%} of the {self.whole_ms:.3g} ms of a pass in which nothing "
            "else is timed."
        )


def measure_parts(
    network: nn.Module, example: Any, cells: Mapping[str, str], operations: Mapping[str, str]
) -> PartTimes:
    """Time the parts, the operations, and whole passes in turn, so that all meet the same state of the machine.

    An operation that is timed runs by itself, with its last batch norm, which the sum of its node takes over otherwise;
    so the operations together may take longer or shorter than the pass. On a busy machine a whole pass is disturbed
    more often than each of its parts, which then add up to less.

    Args:
        network: in evaluation mode.
        cells, operations: what modules are called that are cells and operations, by their names in the network.
    """
    device = next(network.parameters()).device
    modules = dict(network.named_modules())
    outer = {name: name for name in ("stem", "body", "head")}
    inner = {**dict.fromkeys(_inputs(modules, cells, operations), INPUTS), **operations}
    parts: list[dict[str, float]] = []
    kinds: list[dict[str, float]] = []
    whole: list[float] = []

    def run() -> float:
        synchronize(device)
        began = time.perf_counter()
        network(example)
        synchronize(device)
        return time.perf_counter() - began

    def run_timed(named: Mapping[str, str]) -> dict[str, float]:
        with _timed(modules, named, device) as seconds:
            network(example)
        return seconds

    with torch.inference_mode():
        run(), run_timed(outer)  # warms up
        deadline = time.perf_counter() + SECONDS
        while len(whole) < FEWEST or (len(whole) < MOST and time.perf_counter() < deadline):
            whole.append(run())
            parts.append(_by_part(run_timed({**outer, **cells}), set(cells.values())))
            if operations:
                kinds.append(_by_operation(run_timed({**outer, **dict.fromkeys(cells, "cells"), **inner})))
    count = torch.get_num_threads()
    threads = f"cpu, {count} thread{'' if count == 1 else 's'} of {cpu_model()}"
    name = threads if device.type == "cpu" else _device_name(device)
    return PartTimes(_medians(parts), _medians(kinds), 1000 * statistics.median(whole), len(whole), name)


def _by_part(seconds: Mapping[str, float], cells: set[str]) -> dict[str, float]:
    by_part = dict(seconds)
    inside = sum(spent for name, spent in seconds.items() if name in cells)
    if inside and "body" in by_part:
        by_part["body"] = max(by_part["body"] - inside, 0.0)
    return by_part


def _by_operation(seconds: Mapping[str, float]) -> dict[str, float]:
    by_operation = dict(seconds)
    outside, inside = (
        sum(by_operation.pop(name, 0.0) for name in names) for names in (("stem", "body", "head"), ("cells",))
    )
    return {**by_operation, SUMS: max(inside - sum(by_operation.values()), 0.0), REST: max(outside - inside, 0.0)}


def _medians(passes: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in passes for name in each)
    return {name: 1000 * statistics.median(each.get(name, 0.0) for each in passes) for name in names}


@contextmanager
def _timed(
    modules: Mapping[str, nn.Module], named: Mapping[str, str], device: torch.device
) -> Iterator[dict[str, float]]:
    """Seconds that the modules take while the block runs, added up by what they are called."""
    seconds: dict[str, float] = defaultdict(float)
    began: dict[str, float] = {}

    def begin(path: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            synchronize(device)
            began[path] = time.perf_counter()

        return note

    def end(path: str, name: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            synchronize(device)
            seconds[name] += time.perf_counter() - began[path]

        return note

    hooks = []
    try:
        for path, name in named.items():
            hooks.append(modules[path].register_forward_pre_hook(begin(path)))
            hooks.append(modules[path].register_forward_hook(end(path, name)))
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _inputs(modules: Mapping[str, nn.Module], cells: Mapping[str, str], operations: Mapping[str, str]) -> Iterator[str]:
    """The outermost modules of cells that hold no node and are in none."""
    nodes = [name for name, module in modules.items() if isinstance(module, MixedNode)]
    inputs: list[str] = []
    for name in modules:
        is_in_cell = any(name.startswith(f"{cell}.") for cell in cells)
        holds_node = any(f"{node}.".startswith(f"{name}.") for node in nodes)
        is_inside = any(name.startswith(f"{other}.") for other in (*nodes, *operations, *inputs))
        if is_in_cell and not holds_node and not is_inside:
            inputs.append(name)
            yield name


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
