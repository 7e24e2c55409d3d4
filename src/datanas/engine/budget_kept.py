"""How a trained network stands to its budget: counted, and timed on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from datanas.budgets.calibrated import CalibratedLatency
from datanas.budgets.latency_rows import LatencyRows
from datanas.budgets.models import models_of
from datanas.budgets.units import show
from datanas.engine.calibrate import machine
from datanas.engine.timing import interleaved_ms

if TYPE_CHECKING:
    from datanas.engine.train import TrainJob


_ROUNDS = 20


def within_text(job: TrainJob, costs: Mapping[str, float]) -> str:
    """What the network costs beside the bounds; and of a latency what one example takes here, and whether that is more.

    A table that names another device is not compared with this one.
    """
    settings = job.config.budget
    if not settings.bounds or not costs:
        return ""
    models = models_of(settings)
    parts = [
        f"{show(costs[name], models[name].unit)} of {show(bound, models[name].unit)}"
        for name, bound in settings.bounds.items()
    ]
    text = f"within the budget: {', '.join(parts)}"
    table = models.get("latency")
    if settings.latency is None or not isinstance(table, LatencyRows | CalibratedLatency):
        return text
    if table.device not in (None, machine(job.device, torch.get_num_threads())["device"]):
        return f"{text}; the latency is that of the table of {table.device}, and was not timed here"
    network, example, threads = job.evaluated.eval(), job.task.example(), torch.get_num_threads()
    times = interleaved_ms([lambda: network(example)], _ROUNDS, threads=threads, device=job.device)
    taken = float(np.median(times))
    timed = f"{show(taken, 'ms')} timed here on {job.device} with {threads} thread{'s' if threads > 1 else ''}"
    if taken <= settings.latency:
        return f"{text}; {timed}"
    return f"{text} by the table, but {timed}: the bound of {show(settings.latency, 'ms')} is missed"
