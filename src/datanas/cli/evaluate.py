"""`datanas evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from datanas.cli.options import Overrides
from datanas.config import parse_overrides

if TYPE_CHECKING:
    from datanas.engine.train import Evaluation


def run(
    path: Annotated[Path, Parameter(name="RUN", help="Run folder of a training.")],
    /,
    *overrides: Overrides,
    checkpoint: Annotated[
        Literal["last", "best"] | None,
        Parameter(help="Measure a checkpoint instead of the network at the end; best is by the validation score."),
    ] = None,
) -> None:
    """Measure a trained network on its test set again."""
    from datanas.engine.train import evaluate

    print(figures(evaluate(path, parse_overrides(overrides), checkpoint=checkpoint)))


def figures(evaluation: Evaluation) -> str:
    """Test error and costs in one line."""
    return (
        f"test error {evaluation.error:.2%} (score {evaluation.score:.2%}, loss {evaluation.loss:.4f}), "
        f"{evaluation.parameters:,} parameters, {evaluation.macs / 1e6:,.1f} M multiply-adds"
    )
