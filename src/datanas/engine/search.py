"""A whole search: its run folder, what it finds, and what is derived from it later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datanas.codes.accuracy_table import AccuracyTable, Truth
from datanas.codes.architecture import Architecture
from datanas.engine.config import Config, resolve
from datanas.engine.gap import Gap
from datanas.engine.loop import run_job
from datanas.engine.process import process_kept
from datanas.engine.run import Run, begin_run, load_chosen_state, load_run_config
from datanas.engine.search_job import SearchJob as SearchJob
from datanas.engine.search_job import architecture_with_source, genotype_file
from datanas.engine.setup import build_sampler, build_space, load_table, load_task, memory_errors, select_device
from datanas.engine.uncollapsed import derive_uncollapsed
from datanas.kernels.hardware import count_parameters, peak_memory
from datanas.runs.metrics import read_metrics
from datanas.samplers.base import Derivation
from datanas.samplers.derivation import Rule

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        path: the run folder.
        architecture: the one that is kept, with its posterior probability and margin.
        gap: the last measurement of the gap meter.
        history: one mapping of figures an epoch, as in metrics.jsonl.
        parameters: learned numbers of the supernet.
        seconds: the time that the search took, in all its parts, setting up left out.
        truth: what a table says of the architecture, where one was given.
        warnings: what is wrong with what was derived, a line each: P still flat, identities only, a node without input.
        race: the race that has chosen the architecture, where `search.choice` asks for one (`datanas.racing.search`).
    """

    path: Path
    architecture: Architecture
    gap: Gap | None
    history: list[dict[str, Any]]
    parameters: int
    seconds: float
    truth: Truth | None = None
    warnings: tuple[str, ...] = ()
    race: Any = None


@process_kept()
def search(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
) -> SearchResult:
    """The search alone, whatever `search.choice` says; for the rest see `datanas.racing.search.search`."""
    with begin_run(config, "search", resume, allow_topology_change=allow_topology_change) as run:
        with memory_errors(), run.processes.together():
            table = load_table(run.config)
            task = load_task(run.config, run.device, run.processes)
            job = SearchJob(run.config, task, run.device, run.processes)
        run.open(task, job.length)
        run_job(job, run, quiet=quiet)
        if job.derivation is None and not run.has(RESULT_FILE):
            job.end_epoch(job.epochs, {"loss": 0.0})  # killed after its last checkpoint: the same figures again
        found = _kept(job, run)
        kept = architecture_with_source(found, run.config, task, run.config.search.epochs)
        run.write_text("architecture.json", kept.to_json())
        truth = None if table is None else _truth(table, job, kept, run.config)
        if job.derivation is not None:
            run.write_json(RESULT_FILE, _figures(job, run, kept, truth))
        history = read_metrics(run.path / "metrics.jsonl") if run.is_first else []
        result = json.loads(run.processes.first(lambda: (run.path / RESULT_FILE).read_bytes()))
        return SearchResult(
            path=run.path,
            architecture=kept,
            gap=None if result["gap"] is None else Gap(**{name: float(x) for name, x in result["gap"].items()}),
            history=history,
            parameters=count_parameters(job.supernet),
            seconds=run.seconds,
            truth=truth,
            warnings=tuple(result["warnings"]),
        )


def _kept(job: SearchJob, run: Run) -> Architecture:
    """What the last epoch kept; that of a run that was complete before stands in its folder."""
    if job.derivation is not None:
        return job.derivation.architecture
    file = run.path / genotype_file(run.config.search.epochs)
    return Architecture.from_json(run.processes.first(lambda: file.read_bytes()).decode())


def _truth(table: AccuracyTable, job: SearchJob, kept: Architecture, config: Config) -> Truth:
    (probs,) = job.sampler.probabilities().values()
    return table.truth(kept, probs.numpy() if job.sampler.independent else None, config.truth.metric)


def _figures(job: SearchJob, run: Run, kept: Architecture, truth: Truth | None) -> dict[str, Any]:
    """What a comparison wants to know of a search."""
    return {
        "gap": None if job.gap is None else asdict(job.gap),
        "kept": job.kept_costs(kept),
        "posterior": dict(kept.posterior or {}),
        "seconds": run.seconds,
        "steps": job.length,
        "peak_memory": peak_memory(run.device),
        "supernet_parameters": count_parameters(job.supernet),
        "warnings": job.warnings,
        "collapsed": job.has_collapsed(kept),
        "truth": None if truth is None else asdict(truth),
    }


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
) -> Derivation:
    """The architectures of a search run that a rule would keep, from a checkpoint.

    It needs neither data nor a device, save for the rule `best_sample`, which measures in the supernet.

    Args:
        run: a run folder of `search`.
        n: how many, where the rule ranks them.
        samples: M, where it should differ from the search's.
        checkpoint: the last, or that after the epoch whose child scored best on the alpha part.
        rule, operations, none, candidates, raw: as in `sampler.derivation`, where they should differ from the search's.

    Raises:
        CheckpointError: no usable checkpoint there.
        ConfigError: the sampler has no such setting, or the space has no use for the rule.
    """
    config = load_run_config(run)
    given = {
        "samples": samples,
        "derivation.rule": rule,
        "derivation.operations": operations,
        "derivation.none": none,
        "derivation.candidates": candidates,
        "derivation.raw": raw,
    }
    changes = [(f"sampler.{name}", value) for name, value in given.items() if value is not None]
    if changes:
        config = resolve(config, changes)
    space = build_space(config)
    sampler = build_sampler(config, space)
    _, state = load_chosen_state(Path(run), "search", checkpoint)
    if sampler.rule != "best_sample":
        sampler.load_state_dict(state["job"]["sampler"])
        return derive_uncollapsed(sampler, space, n)
    with memory_errors():
        device = select_device(config)
        job = SearchJob(config, load_task(config, device), device)
        job.load_state(state["job"])
        return job.choose(n)
