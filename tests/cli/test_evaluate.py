"""The line that a training and an evaluation print."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datanas.cli.evaluate import figures
from datanas.engine.evaluation import Evaluation
from datanas.tasks.classification import Classification
from datanas.tasks.clustering import Clustering
from datanas.tasks.language import Language

MORE = Evaluation(0.912, 1 - 0.912, 0.25, 1200, 3_400_000, figures={"top5": 0.99, "iou/cat": 0.5, "ari": -0.0123})
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
    task = Classification if evaluation.score_name == "accuracy" else Language
    assert figures(task, evaluation, validation) == f"{text}, {COSTS}"


def test_other_figures_follow_in_lines_of_their_own() -> None:
    first, *others = figures(Classification, MORE).splitlines()
    assert first == figures(Classification, TEST)
    assert others == ["  top5 99.00%", "  iou/cat 50.00%", "  ari -1.23%"]


def test_what_is_no_share_stands_as_it_is() -> None:
    found = replace(MORE, figures={"information": 1.23456, "clusters": 10.0})
    assert figures(Clustering, found).splitlines()[1:] == ["  information 1.2346", "  clusters 10"]


def test_beside_a_score_that_is_no_share_no_figure_is_one() -> None:
    found = replace(perplexity(82.14, "test"), figures={"bits": 1.5})
    assert figures(Language, found).splitlines()[1:] == ["  bits 1.5000"]


def test_the_interval_of_the_score_stands_last() -> None:
    found = replace(MORE, interval=(0.9, 0.92), examples=3000)
    assert (
        figures(Classification, found).splitlines()[-1] == "  95 % interval of accuracy 90.0 to 92.0 (3,000 examples)"
    )
    found = replace(perplexity(82.14, "test"), interval=(80.02, 84.5), examples=320)
    assert figures(Language, found).splitlines()[1:] == [
        "  95 % interval of perplexity 80.0 to 84.5 (320 stretches of text)"
    ]
