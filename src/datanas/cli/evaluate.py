"""`datanas evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from datanas.cli.parameters import Overrides, paths_and_overrides

if TYPE_CHECKING:
    from datanas.engine.evaluation import Evaluation
    from datanas.tasks.base import Task


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a training or a fit, or several to compare.")],
    /,
    *overrides: Overrides,
    checkpoint: Annotated[
        Literal["last", "best"] | None,
        Parameter(help="Measure a checkpoint instead of the network at the end; best is by the validation score."),
    ] = None,
) -> None:
    """Measure a trained network on its test set again; of several, a table with the differences to the first.

    datanas evaluate runs/mine runs/random runs/resnet18
    """
    from datanas.engine.config import resolve
    from datanas.engine.earlier_run import load_run_config, trained_run
    from datanas.engine.evaluation import evaluate_parts
    from datanas.tasks import task_measuring

    others, settings = paths_and_overrides(overrides)
    if others:
        from datanas.engine.evaluation import compare_trained
        from datanas.report.evaluations import Measured, evaluation_table

        rows, score = compare_trained([path, *others], settings, checkpoint=checkpoint)
        print(evaluation_table([Measured(**row) for row in rows], score))
        return
    measured = evaluate_parts(path, settings, checkpoint=checkpoint)
    config = resolve(load_run_config(trained_run(path), learns=False), settings)
    print(figures(task_measuring(config.task), *measured))


def figures(task: type[Task[Any]], evaluation: Evaluation, validation: Evaluation | None = None) -> str:
    """Scores and costs in one line: the test error, where the score is a share.

    Other figures and the 95 % interval of the score follow, a line each.

    Whatever is a share is in per cent.

    Args:
        task: what the figures are of.
        validation: on the part that the data bring for it.
    """
    parts = [_score(task, evaluation, "test")]
    if validation is not None:
        parts = [_score(task, validation, "valid"), *(parts if evaluation.part != validation.part else [])]
    costs = f"{evaluation.parameters:,} parameters, {evaluation.macs / 1e6:,.1f} M multiply-adds"
    others = [f"  {name} {task.figure(name).show(value)}" for name, value in evaluation.figures.items()]
    if evaluation.interval is not None:
        ends = task.metric.show_range(*evaluation.interval)
        others.append(f"  95 % interval of {task.metric.name} {ends} ({evaluation.examples:,} {task.answer_units})")
    return "\n".join([f"{', '.join(parts)}, {costs}", *others])


def _score(task: type[Task[Any]], evaluation: Evaluation, part: str) -> str:
    metric = task.metric
    score = metric.show(evaluation.score, 2 if metric.is_share else None)
    if metric.has_error:
        return f"{part} error {1 - evaluation.score:.2%} (score {score}, loss {evaluation.loss:.4f})"
    return f"{part} {metric.name} {score} (loss {evaluation.loss:.4f})"
