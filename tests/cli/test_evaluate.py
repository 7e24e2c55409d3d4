"""The line that a training and an evaluation print."""

from __future__ import annotations

import pytest

from datanas.cli.evaluate import figures
from datanas.engine.train import Evaluation

TEST = Evaluation(0.912, 1 - 0.912, 0.25, 1200, 3_400_000)
COSTS = "1,200 parameters, 3.4 M multiply-adds"


def perplexity(value: float, part: str) -> Evaluation:
    return Evaluation(value, None, 4.5, 1200, 3_400_000, part, "perplexity")


@pytest.mark.parametrize(
    ("evaluation", "validation", "text"),
    [
        (TEST, None, "test error 8.80% (score 91.20%, loss 0.2500)"),
        (
            perplexity(82.14, "test"),
            perplexity(85.31, "validation"),
            "valid perplexity 85.3 (loss 4.5000), test perplexity 82.1 (loss 4.5000)",
        ),
        (perplexity(85.31, "validation"), perplexity(85.31, "validation"), "valid perplexity 85.3 (loss 4.5000)"),
        (perplexity(82.14, "test"), None, "test perplexity 82.1 (loss 4.5000)"),
    ],
)
def test_scores_and_costs_stand_in_one_line(evaluation: Evaluation, validation: Evaluation | None, text: str) -> None:
    assert figures(evaluation, validation) == f"{text}, {COSTS}"
