"""Whether a network keeps a bound on latency by the clock, before it is kept: a table only predicts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map_only

from datanas.budgets.calibrated import CalibratedLatency
from datanas.codes.architecture import Architecture
from datanas.core.processes import ALONE, Processes
from datanas.engine.budget import Budget
from datanas.engine.calibrate import machine
from datanas.engine.timing import interleaved_ms
from datanas.kernels.hardware import move_to

_ROUNDS = 20

LatencyClock = Callable[[Architecture], float]
"""Milliseconds that one example takes in the network of an architecture."""


def latency_clock(
    budget: Budget | None, select_device: Callable[[], torch.device], processes: Processes = ALONE
) -> LatencyClock | None:
    """The clock for a bound whose table was calibrated on this machine as it is set now; None where there is none.

    Args:
        select_device: where the networks will run; asked only where there is such a table.
        processes: those that ask together; the first of them times for all, so that all keep the same.
    """
    if budget is None or budget.config.latency is None or not budget.config.timed:
        return None
    table = budget.models.get("latency")
    if not isinstance(table, CalibratedLatency) or table.table.machine is None:
        return None
    device, threads = select_device(), torch.get_num_threads()
    if dict(table.table.machine) != machine(device, threads):
        return None

    def clock(architecture: Architecture) -> float:
        return float(processes.first(lambda: repr(_timed_ms(budget, architecture, device, threads)).encode()))

    return clock


def _timed_ms(budget: Budget, architecture: Architecture, device: torch.device, threads: int) -> float:
    network = move_to(budget.real_network(architecture), device).eval()
    example = made_up(budget.example, device)
    times = interleaved_ms([lambda: budget.answer(network(example))], _ROUNDS, threads=threads, device=device)
    return float(np.median(times))


def made_up(example: Any, device: torch.device) -> Any:
    """Noise, or zeros for whole numbers, in the shapes of an example that lies on the meta device."""

    def fill(x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point():
            return torch.zeros(x.shape, dtype=x.dtype, device=device)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(device, x.dtype)
        return noise.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else noise

    return tree_map_only(torch.Tensor, fill, example)
