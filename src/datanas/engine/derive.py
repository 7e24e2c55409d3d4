"""What a search that is over, or under way, would keep: from its checkpoint, without searching on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from datanas.core.errors import ConfigError
from datanas.engine.budget import budget_of, recorded
from datanas.engine.config import resolve
from datanas.engine.earlier_run import load_chosen_state, load_run_config
from datanas.engine.process import process_kept
from datanas.engine.search import SearchJob
from datanas.engine.setup import build_sampler, build_space, load_task, memory_errors, select_device
from datanas.engine.timed_latency import latency_clock
from datanas.engine.within_budget import derive_within
from datanas.samplers.derivation import Derivation, Rule


@process_kept()
def derive(
    run: str | Path,
    *,
    n: int = 1,
    samples: int | None = None,
    checkpoint: Literal["last", "best"] = "last",
    rule: Rule | None = None,
    operations: int | None = None,
    none: bool | None = None,
    candidates: int | None = None,
    raw: bool | None = None,
    settings: Sequence[tuple[str, object]] = (),
) -> Derivation:
    """The architectures of a search run that a rule would keep, from a checkpoint.

    It needs neither data nor a device, save for the rule `best_sample`, which measures in the supernet.

    Args:
        run: a run folder of `search`.
        n: how many, where the rule ranks them.
        samples: M, where it should differ from the search's.
        checkpoint: the last, or that after the epoch whose child scored best on the alpha part.
        rule, operations, none, candidates, raw: as in `sampler.derivation`, where they should differ from the search's.

        settings: of the sections `budget` and `train`, by dotted name, where they should differ from the search's:
            what the network may cost, and of which size it is.

    Raises:
        CheckpointError: no usable checkpoint there.
        ConfigError: the sampler has no such setting, the space has no use for the rule, or no network is within the
            budget.

    >>> run = datanas.search(recipe).path
    >>> [round(log_prob, 1) <= 0 for _, log_prob in derive(run, n=3).ranking]
    [True, True, True]
    """
    config = load_run_config(run, learns=False)
    given = {
        "samples": samples,
        "derivation.rule": rule,
        "derivation.operations": operations,
        "derivation.none": none,
        "derivation.candidates": candidates,
        "derivation.raw": raw,
    }
    for name, _ in settings:
        if name.partition(".")[0] not in ("budget", "train"):
            raise ConfigError(f"--{name}: derive takes settings of budget and train alone; known: --budget.macs")
    changes = [*((f"sampler.{name}", value) for name, value in given.items() if value is not None), *settings]
    if changes:
        config = resolve(config, changes)
    space = build_space(config)
    sampler = build_sampler(config, space)
    _, state = load_chosen_state(Path(run), "search", checkpoint)
    if sampler.rule != "best_sample":
        sampler.load_state_dict(state["job"]["sampler"])
        budget = budget_of(config, recorded(config, Path(run)))
        if budget is not None:
            budget.limit(sampler)
        clock = latency_clock(budget, lambda: select_device(config))
        return derive_within(sampler, space, budget, n, clock=clock)
    with memory_errors():
        device = select_device(config)
        job = SearchJob(config, load_task(config, device), device)
        job.load_state(state["job"])
        return job.choose(n)
