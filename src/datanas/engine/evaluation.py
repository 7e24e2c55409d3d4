"""What a trained network reaches and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.paths import is_file, is_folder
from datanas.core.shares import independent_difference
from datanas.engine.certainty import TAIL, Interval, certainty_of, score_interval
from datanas.engine.config import Config, resolve
from datanas.engine.data_record import read_data_record, require_known_data
from datanas.engine.earlier_run import load_chosen_state, load_run_config, to_finish, trained_run
from datanas.engine.exhibits import keep_exhibits
from datanas.engine.process import process_kept
from datanas.engine.rebuild import network_for, with_network_of
from datanas.engine.setup import load_task, select_device
from datanas.kernels.hardware import count_macs, count_parameters, move_to
from datanas.network import Network
from datanas.tasks.base import FullEvaluation, Part, Task
from datanas.tasks.metric import Metric

NETWORK_FILE = "network.safetensors"


@dataclass(frozen=True)
class Evaluation:
    """What a trained network reaches and costs.

    Attributes:
        score: the task's score on the part (accuracy in 0..1).
        error: 1 - score, where the score is a share.
        loss: mean loss there.
        parameters: learned numbers, the auxiliary tower left out.
        macs: multiply-adds of one example.
        part: where it was measured: "test", "validation", or "alpha" of a search's parts.
        score_name: what the score is.
        figures: whatever else the task measures, by its names.
        interval: 95 % of the score, by the choice of examples alone; None where the score does not say how uncertain
            it is.
        examples: that it is over, or what else its interval goes by (`Task.answer_units`); None where it has none.
    """

    score: float
    error: float | None
    loss: float
    parameters: int
    macs: int
    part: str = "test"
    score_name: str = "accuracy"
    figures: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    examples: int | None = None


@process_kept()
def evaluate(
    run: str | Path,
    overrides: list[tuple[str, object]] | None = None,
    *,
    checkpoint: Literal["last", "best"] | None = None,
) -> Evaluation:
    """Measure the trained network of a run folder on its test set again.

    Args:
        run: a run folder of `train`, or of `fit`, whose training it is then.
        overrides: settings that differ here, such as ("data.root", path).
        checkpoint: measure what the last checkpoint holds, or that after the epoch with the best validation score,
            instead of the network that the training ended with.

    Raises:
        CheckpointError: no trained network there, or one that does not fit its architecture.
        DataError: other examples than it was trained with, and no override that names them; or other classes.

    >>> trained = datanas.train("gdas", recipe)
    >>> evaluate(trained.path) == trained.evaluation
    True
    """
    network, task, _ = restore(run, overrides, checkpoint)
    return measure(network, task)


@process_kept()
def evaluate_parts(
    run: str | Path,
    overrides: list[tuple[str, object]] | None = None,
    *,
    checkpoint: Literal["last", "best"] | None = None,
) -> tuple[Evaluation, Evaluation | None]:
    """As `evaluate`, with the figures on the part `validation` that the data bring, where they do.

    What a report shows besides is kept in the run folder, unless a checkpoint is measured.
    """
    network, task, _ = restore(run, overrides, checkpoint)
    validation = measure(network, task, "validation") if task.has_validation else None
    if checkpoint is not None:
        return measure(network, task), validation
    evaluation, found = measure_fully(network, task)
    with evaluating(network):
        keep_exhibits(trained_run(run), network, task, "test", found.exhibits, named=bool(overrides))
    return evaluation, validation


@process_kept()
def compare_trained(
    runs: Sequence[str | Path],
    overrides: list[tuple[str, object]] | None = None,
    *,
    checkpoint: Literal["last", "best"] | None = None,
) -> tuple[list[dict[str, Any]], str]:
    """The trained networks of several run folders on their test set, as plain data, and the name of the score.

    Raises:
        ConfigError: they are of different tasks, or are measured on different examples or by different scores.
        CheckpointError, DataError: as for `evaluate`.
    """
    measured, answers = [], {}
    first: tuple[str, str, str] | None = None
    for number, run in enumerate(runs):
        network, task, settings = restore(run, overrides, checkpoint)
        same = settings.task.name, task.sum_of_examples(), task.metric.name
        if first is None:
            first = same
        elif same != first:
            what = next(w for w, a, b in zip(("task", "examples", "score"), same, first, strict=True) if a != b)
            raise ConfigError(f"{run}: another {what} than that of {runs[0]}; scores on different ones say nothing")
        evaluation, found = measure_fully(network, task)
        measured.append(evaluation)
        answers[number] = found.answers
    scores = {number: each.score for number, each in enumerate(measured)}
    certainty = certainty_of(scores, type(task), measured[0].examples or 0, answers)
    metric = task.metric
    rows = []
    for number, (name, each) in enumerate(zip(_names(runs), measured, strict=True)):
        ahead = certainty.difference(number, 0, TAIL) if number and certainty is not None else None
        if number and ahead is None:
            ahead = _ahead_on_others(each, measured[0], metric)
        rows.append(
            {
                "name": name,
                "score": metric.show(each.score),
                "value": each.score,
                "parameters": each.parameters,
                "macs": each.macs,
                "interval": each.interval,
                "ahead": ahead,
                "interval_shown": "" if each.interval is None else metric.show_range(*each.interval),
                "ahead_shown": "" if ahead is None else metric.show_interval(*ahead),
            }
        )
    return rows, metric.name


def _ahead_on_others(one: Evaluation, first: Evaluation, metric: Metric) -> Interval | None:
    """How much better a network is than the first, which was measured on others, such as other episodes."""
    if one.interval is None or first.interval is None:
        return None
    low, high = independent_difference(one.score, one.interval, first.score, first.interval)
    gap = one.score - first.score
    return (gap, low, high) if metric.higher_is_better else (-gap, -high, -low)


def _names(runs: Sequence[str | Path]) -> list[str]:
    """What runs are called side by side: their folders' names, or whole paths where these do not tell them apart."""
    names = [Path(run).name or str(run) for run in runs]
    return names if len(set(names)) == len({str(run) for run in runs}) else [str(run) for run in runs]


def restore(
    run: str | Path,
    overrides: list[tuple[str, object]] | None = None,
    checkpoint: Literal["last", "best"] | None = None,
) -> tuple[Network, Task[Any], Config]:
    """The trained network of a run folder, its task with the parts that it was trained on, and its settings.

    Args, raises: as for `evaluate`.
    """
    run = trained_run(run)
    settings = resolve(load_run_config(run, learns=False), overrides or [])
    device = select_device(settings)
    weights, source = trained_weights(run, checkpoint)
    task = load_task(resolve(settings, _range_of(run, settings)), device)
    require_known_data(run, settings, task, named=any(key.startswith("data.") for key, _ in overrides or []))
    architecture = Architecture.load(run / "architecture.json")
    settings = with_network_of(settings, architecture)
    network = network_for(architecture, settings, task)
    try:
        network.load_state_dict(weights)
    except Exception as error:
        reason = " ".join(str(error).split("\n\t", 1)[-1].split())
        raise CheckpointError(f"{source}: does not fit the run's architecture: {reason}") from None
    return move_to(network, device), task, settings


def _range_of(run: Path, settings: Config) -> list[tuple[str, object]]:
    """The range by which numbers became pixels when the network was trained, for data that say nothing of it."""
    known = (read_data_record(run).get("input") or {}).get("value_range")
    unset = [getattr(settings.data, name, 0) is None for name in ("value_range", "white_level")]
    return [("data.value_range", known)] if known is not None and all(unset) else []


def trained_weights(run: Path, checkpoint: Literal["last", "best"] | None) -> tuple[dict[str, Tensor], Path]:
    """The state of a trained network, and the file or folder that holds it.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    if checkpoint is not None:
        step, state = load_chosen_state(run, "train", checkpoint)
        job = state["job"]
        weights = job["network"]
        if job["average"] is not None:
            weights = {
                name.removeprefix("module."): value for name, value in job["average"].items() if name != "n_averaged"
            }
        return weights, run / "checkpoints" / f"step-{step:08d}"
    file = run / NETWORK_FILE
    is_there = is_file(file, CheckpointError)
    if not is_there and is_folder(run / "genotypes", CheckpointError):
        raise CheckpointError(f"{run}: a search has no trained network; train its cell: datanas train {run}")
    if not is_there:
        raise CheckpointError(f"no trained network in {run}: {NETWORK_FILE} is missing; {to_finish(run)}")
    try:
        return load_file(file), file
    except Exception as error:
        raise CheckpointError(f"{file}: not a trained network: {str(error).splitlines()[0]}") from None


def measure(network: torch.nn.Module, task: Task[Any], part: Part = "test") -> Evaluation:
    """Figures on a part, and costs."""
    return measure_fully(network, task, part)[0]


def measure_fully(network: torch.nn.Module, task: Task[Any], part: Part = "test") -> tuple[Evaluation, FullEvaluation]:
    """The same, and what else is kept or shown of that pass; exhibits are to be made in evaluation mode."""
    with evaluating(network):
        found = task.evaluate_fully(network, part)
    if found.answers and not _has_the_score(task, found):
        found = replace(found, answers={})
    return _evaluation(found, network, task, part), found


def _has_the_score(task: Task[Any], found: FullEvaluation) -> bool:
    """Whether answers tell the score; those that a task has from its base may tell another one."""
    count = len(next(iter(found.answers.values())))
    whole = float(task.resampled_scores(found.answers, torch.ones(1, count, dtype=torch.float64)))
    score = found.figures[task.metric.name]
    return whole == score or abs(whole - score) <= 1e-4 * abs(score)


def _evaluation(found: FullEvaluation, network: torch.nn.Module, task: Task[Any], part: Part) -> Evaluation:
    figures = found.figures
    auxiliary = getattr(network.head, "auxiliary", None)
    extra = 0 if auxiliary is None else count_parameters(auxiliary)
    value = figures[task.metric.name]
    examples = len(next(iter(found.answers.values()))) if found.answers else len(task.chosen().get(part, ()))
    interval = score_interval(type(task), value, found.answers, examples) if examples else None
    return Evaluation(
        score=value,
        error=1 - value if task.metric.is_share else None,
        loss=figures["loss"],
        parameters=count_parameters(network) - extra,
        macs=count_macs(network, task.example()),
        part=part,
        score_name=task.metric.name,
        figures={name: number for name, number in figures.items() if name not in (task.metric.name, "loss")},
        interval=interval,
        examples=None if interval is None else examples,
    )


def score(network: torch.nn.Module, task: Task[Any], part: Any, limit: int | None = None) -> dict[str, float]:
    """A network's figures over a part, in evaluation mode."""
    with evaluating(network):
        return task.evaluate(network, part, limit)


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Run a block with the network in evaluation mode."""
    training = network.training
    network.eval()
    try:
        yield network
    finally:
        network.train(training)
