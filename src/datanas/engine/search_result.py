"""What a search leaves: `SearchResult` for Python, result.json and architecture.json in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datanas.codes.accuracy_table import AccuracyTable, Truth
from datanas.codes.architecture import Architecture
from datanas.engine.findings import genotype_file, with_source
from datanas.engine.gap import Gap
from datanas.engine.run import Run
from datanas.kernels.hardware import count_parameters, peak_memory
from datanas.runs.metrics import add_result, read_metrics

if TYPE_CHECKING:
    from datanas.engine.search import SearchJob

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


def write_result(job: SearchJob, run: Run, table: AccuracyTable | None) -> SearchResult:
    """Write what a search that has made its last step has found; of one that was complete before, read it."""
    derived = _derived_before(run) if job.derivation is None else job.derivation.architecture
    architecture = with_source(derived, run.config, job.task, run.config.search.epochs)
    run.write_text("architecture.json", architecture.to_json())
    truth = None if table is None else _truth(table, job, architecture)
    if job.derivation is not None:
        run.write_json(RESULT_FILE, _figures(job, run, architecture, truth))
        if run.is_first:
            add_result(run.path, job.length, _scores(job, truth))
    result = json.loads(run.processes.first(lambda: (run.path / RESULT_FILE).read_bytes()))
    return SearchResult(
        path=run.path,
        architecture=architecture,
        gap=None if result["gap"] is None else Gap.from_json(result["gap"]),
        history=read_metrics(run.path / "metrics.jsonl") if run.is_first else [],
        parameters=count_parameters(job.supernet),
        seconds=run.seconds,
        truth=truth,
        warnings=tuple(result["warnings"]),
    )


def _derived_before(run: Run) -> Architecture:
    file = run.path / genotype_file(run.config.search.epochs)
    return Architecture.from_json(run.processes.first(lambda: file.read_bytes()).decode())


def _truth(table: AccuracyTable, job: SearchJob, architecture: Architecture) -> Truth:
    (probs,) = job.sampler.probabilities().values()
    return table.truth(architecture, probs.numpy() if job.sampler.independent else None, job.config.truth.metric)


def _scores(job: SearchJob, truth: Truth | None) -> dict[str, float]:
    """By what TensorBoard compares searches."""
    scores = {} if job.gap is None else {job.task.metric.name: job.gap.child}
    return scores if truth is None else {**scores, "truth": truth.value}


def _figures(job: SearchJob, run: Run, architecture: Architecture, truth: Truth | None) -> dict[str, Any]:
    """What a comparison wants to know of a search."""
    return {
        "gap": None if job.gap is None else asdict(job.gap),
        "kept": job.findings.kept_costs(architecture),
        "posterior": dict(architecture.posterior or {}),
        "seconds": run.seconds,
        "steps": job.length,
        "peak_memory": peak_memory(run.device),
        "supernet_parameters": count_parameters(job.supernet),
        "warnings": job.warnings,
        "collapsed": job.findings.has_collapsed(architecture),
        "truth": None if truth is None else asdict(truth),
    }
