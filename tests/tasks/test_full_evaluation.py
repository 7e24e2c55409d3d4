"""What a class that is built on a task keeps of what its base keeps: nothing that is of another score."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from datanas.data.base import ImageData, ImageSet
from datanas.engine.evaluation import measure_fully
from datanas.lookup import architecture
from datanas.network import build_network
from datanas.tasks.base import Model, Part
from datanas.tasks.classification import Classification
from datanas.tasks.metric import Metric
from datanas.tasks.segmentation import Segmentation

CPU = torch.device("cpu")


class WithMore(Classification):
    """Adds a figure."""

    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        return {**super().evaluate(model, part, limit), "more": 1.0}


class ByTop5(Classification):
    """Goes by another figure of its base."""

    metric = Metric("top5", counts_examples=True)


class ByTop5Alone(WithMore):
    metric = Metric("top5")
    keeps_answers = True  # which is not so


class Elsewise(Segmentation):
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        return {"miou": 0.5, "loss": 1.0}


def measured(kind: type[Classification]) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    part = ImageSet(images, torch.arange(60) % 6)
    task = kind(Classification.Config(stem="plain_half"), ImageData(part, part, tuple("abcdef")), CPU, 0)
    network = build_network(
        architecture("gdas"), task="classification", num_classes=6, channels=2, cells=3, stem="plain_half"
    )
    return measure_fully(network.eval(), task)


def test_a_figure_more_costs_neither_answers_nor_exhibits() -> None:
    evaluation, found = measured(WithMore)
    assert evaluation.figures["more"] == 1.0
    assert float(found.answers["right"].float().mean()) == pytest.approx(evaluation.score)
    assert [each.kind for each in found.exhibits()][:2] == ["confusion", "table"]


@pytest.mark.parametrize("kind", [ByTop5, ByTop5Alone])
def test_answers_of_another_score_are_not_kept(kind: type[Classification]) -> None:
    evaluation, found = measured(kind)
    assert evaluation.score_name == "top5"
    assert found.answers == {}
    assert (evaluation.interval is None) == (not kind.metric.counts_examples)
    if evaluation.interval is not None:
        assert evaluation.interval[0] < evaluation.score < evaluation.interval[1]


def test_who_measures_otherwise_is_taken_at_its_word() -> None:
    assert not Elsewise.keeps_answers
    found = Elsewise.evaluate_fully(Elsewise.__new__(Elsewise), lambda x: x, "test")
    assert found.figures == {"miou": 0.5, "loss": 1.0}
    assert found.answers == {}
