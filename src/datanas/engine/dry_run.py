"""What a run will cost, from one measured step: nothing is written."""

from __future__ import annotations

import statistics
import textwrap
import time
from collections.abc import Callable
from itertools import count

import torch

from datanas.codes.architecture import Architecture
from datanas.core import seeding
from datanas.engine.alpha_reach import flat_warning
from datanas.engine.budget import around, budget_of, require_within
from datanas.engine.budgeted_alpha import expected_inclusion
from datanas.engine.config import Config
from datanas.engine.fit import require_search, require_training
from datanas.engine.gap import re_estimated
from datanas.engine.loop import Job
from datanas.engine.process import process_kept
from datanas.engine.rebuild import with_network_of
from datanas.engine.search import SearchJob
from datanas.engine.selection import FINALISTS, FIRST_EXAMPLES
from datanas.engine.setup import load_table, load_task, memory_errors, select_device
from datanas.engine.starting import starting_weights
from datanas.engine.train import TrainJob
from datanas.engine.width import with_width
from datanas.kernels.gates import host_gates
from datanas.kernels.hardware import count_macs, count_parameters, median_seconds, peak_memory, synchronize
from datanas.tasks.base import Part

WARM_UP, REPEATS = 2, 3
PATIENCE = 8.0
"""Seconds after which no further step is measured."""
FEW_EXAMPLES = 250
"""On which the gap is measured as it stands; on more, a child is measured on as many or on an eighth."""
LONG_MEASURING = 0.5
"""Of the time of the steps: measuring that takes more is named."""
LEFT_OUT = 0.1
"""Of a part: batches that leave out more in each epoch are named."""
_LABEL, _WIDTH = 20, 110


@process_kept()
def estimate_search(config: Config) -> str:
    """Parameters, expected multiply-adds, memory, one measured step and the estimated time of a whole search."""
    require_search(config)
    with memory_errors():
        device = select_device(config)
        load_table(config)
        job = SearchJob(config, load_task(config, device), device)
        step, measure = measure_job(job, device)
    settings = config.search
    measured = -(-settings.epochs // settings.gap.every)
    costs = job.findings.expected_costs()
    return "\n".join(
        [
            f"supernet            {count_parameters(job.supernet):,} parameters",
            f"sampled operations  {costs['parameters']:,.0f} parameters, {costs['macs'] / 1e6:.1f} M multiply-adds "
            f"{job.task.one()}, on average",
            *_budget(job),
            *_times(job, step, measure, measured, device),
            *_warnings(flat_warning(job), _long_measuring(job, step, measure, measured), _left_out(job)),
        ]
    )


@process_kept()
def estimate_train(config: Config, architecture: Architecture) -> str:
    """Parameters, multiply-adds, memory, one measured step and the estimated time of a whole training."""
    config = with_network_of(config, architecture)
    require_training(config, architecture)
    with memory_errors():
        device = select_device(config)
        start = starting_weights(config, architecture)
        task = load_task(config, device)
        config = with_width(architecture, config, task)
        costs = require_within(architecture, config, task)
        job = TrainJob(config, architecture, task, device, start=start)
        step, measure = measure_job(job, device)
    measured = -(-job.epochs // config.train.validate_every)
    width = config.train.network_config.width
    has_auxiliary = getattr(job.network.head, "auxiliary", None) is not None
    return "\n".join(
        [
            f"network             {width} channels, {count_parameters(job.network):,} parameters"
            f"{', the auxiliary tower included' if has_auxiliary else ''}",
            f"multiply-adds       {count_macs(job.network, job.task.example()) / 1e6:,.1f} M {job.task.one()}",
            *(
                [f"budget              met: {budget.text(costs)}"]
                if (budget := budget_of(config, around(task)))
                else []
            ),
            *_times(job, step, measure, measured, device),
            *_warnings(_left_out(job)),
        ]
    )


def _budget(job: SearchJob) -> list[str]:
    """Whether networks are within the bounds, what the cheapest has, and what is expected where alpha starts."""
    budget = job.budget
    if budget is None:
        return []
    least = budget.require_met(job.sampler)  # refused before, where it cannot be met
    lines = [f"budget              can be met; the least is {budget.text(least)}"] if least else []
    if job.budget_loss is not None:
        expected = job.budget_loss.expected(expected_inclusion(job.sampler))
        lines.append(f"expected of P       {budget.text({name: float(value) for name, value in expected.items()})}")
    if "memory" in budget.bounds:
        lines.append(
            "budget.memory       is no sum over operations: counted for what ranks first, and refused if none has less"
        )
    return lines


def measure_job(job: Job, device: torch.device) -> tuple[float, float]:
    """Seconds of a step, and of the measurements after an epoch; the job is thrown away afterwards.

    Where a step takes seconds one or two are enough, for what a first step costs besides is then little. Of a gap on
    many examples the parts are measured that it consists of, and their times added up.
    """
    steps = count(max(0, job.epochs * job.steps_per_epoch - job.steps_per_epoch))

    def turn() -> None:
        for _ in range(job.turn):
            job.step(next(steps))

    step = _patient_seconds(turn, device) / job.turn
    if isinstance(job, SearchJob) and (measured := _gap_examples(job)) > FEW_EXAMPLES:
        return step, _gap_seconds(job, measured, device)
    start = time.perf_counter()
    job.end_epoch(job.epochs, {"loss": 0.0})
    return step, time.perf_counter() - start


def _patient_seconds(call: Callable[[], None], device: torch.device) -> float:
    """The median time of REPEATS calls after WARM_UP, or of those that were made when PATIENCE was over.

    The first call counts only where no other was made.
    """
    start = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < WARM_UP + REPEATS and (not seconds or time.perf_counter() - start < PATIENCE):
        seconds.append(median_seconds(call, device, warm_up=0, repeats=1))
    return statistics.median(seconds[min(WARM_UP, len(seconds) - 1) :])


def _gap_examples(job: SearchJob) -> int:
    """On how many examples of the alpha part the gap is measured."""
    wanted, there = job.config.search.gap.examples, len(job.task.chosen().get("alpha", ()))
    return min(wanted or there, there or wanted or 0)


def _gap_seconds(job: SearchJob, examples: int, device: torch.device) -> float:
    """Seconds of the measurements after the last epoch, from one child on a part of the examples.

    The gap is the supernet, the children that are drawn and the child that is kept, the latter twice; all but the
    supernet and one of these with statistics re-estimated. The rule `best_sample` measures its candidates likewise.
    """
    gap, seed = job.config.search.gap, job.config.seed
    part = max(FEW_EXAMPLES, examples // 8)
    with torch.no_grad():
        draw = job.sampler.draw(1.0, seeding.generator(seed, "dry run"))
    child = job.supernet.child(host_gates(draw.gates, device))
    batches = [job.task.batch("weights", 0)]
    start = time.perf_counter()
    with re_estimated(job.supernet, job.task, child, batches):
        synchronize(device)
        between = time.perf_counter()
        job.task.evaluate(child, "alpha", part)
        synchronize(device)
        end = time.perf_counter()
    one_of_all = (end - between) * examples / part
    statistics_of_one = (between - start) * gap.statistics_batches
    total = (gap.children + 3) * one_of_all + (gap.children + 1) * statistics_of_one
    if job.sampler.rule != "best_sample":
        return total
    candidates = job.sampler.derivation.candidates
    finalists = min(candidates, FINALISTS)
    first = candidates * one_of_all * min(1.0, FIRST_EXAMPLES / examples) if candidates > finalists else 0.0
    return total + first + finalists * (one_of_all + statistics_of_one)


def _times(job: Job, step: float, measure: float, measured: int, device: torch.device) -> list[str]:
    total = job.length
    seconds = total * step + measured * measure
    return [
        f"memory              {peak_memory(device) / 2**30:.2f} GiB at the highest point so far ({device})",
        f"one step            {step:.3f} s, median of {REPEATS} after {WARM_UP}, or of fewer where they take long",
        f"measuring           {measure:.1f} s, {measured} times",
        f"whole run           {total:,} steps in {job.epochs} epochs, about {_clock(seconds)} h",
    ]


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _warnings(*texts: str | None) -> list[str]:
    """Lines of the estimate, each text below the label "warning"."""
    first, others = "warning".ljust(_LABEL), " " * _LABEL
    return [
        textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
        for text in texts
        if text is not None
    ]


def _long_measuring(job: SearchJob, step: float, measure: float, measured: int) -> str | None:
    """A warning where measuring takes much of the run."""
    steps, gap = job.length * step, measured * measure
    if gap <= LONG_MEASURING * steps:
        return None
    return (
        f"measuring the gap takes about {_clock(gap)} h, the steps {_clock(steps)} h. What helps: a larger "
        "--search.gap.every, fewer --search.gap.examples"
    )


def _left_out(job: SearchJob | TrainJob) -> str | None:
    """A warning of the part of which an epoch leaves out most, if that is much.

    Batches are full, so the last examples of an epoch make none; another epoch has them, in another order.
    """
    parts: tuple[Part, ...] = ("weights", "alpha")
    if isinstance(job, TrainJob):
        parts = ("weights",) if job.config.train.parts == "search" else ("train",)
    batch = getattr(job.config, job.kind).batch_size
    shares = {part: job.task.left_out(part) / len(job.task.chosen()[part]) for part in parts if job.task.left_out(part)}
    most = max(shares, key=lambda part: shares[part], default=None)
    if most is None or shares[most] <= LEFT_OUT:
        return None
    steps, images = job.task.steps_per_epoch(most), len(job.task.chosen()[most])
    return (
        f"{images} {job.task.unit}s of the part {most!r} make {steps} step{'s' if steps > 1 else ''} an epoch at batch "
        f"{batch}, and {job.task.left_out(most)} are left out of each. What helps: a smaller --{job.kind}.batch_size"
    )
