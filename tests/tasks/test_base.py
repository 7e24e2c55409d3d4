"""What a task says of its score and its examples where it says nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import nn

from datanas.core.settings import ComponentConfig
from datanas.tasks.classification import Classification
from datanas.tasks.metric import Metric


class Downwards(Classification):
    metric: ClassVar[Metric] = Metric("accuracy", is_share=False, higher_is_better=False)
    unit = "token"


class Counting(Classification):
    further: ClassVar[Sequence[Metric]] = (
        Metric("bits", is_share=False, digits=4),
        Metric("classes", is_share=False, digits=0),
    )


def test_a_search_prefers_the_better_score() -> None:
    for kind, sign in ((Classification, 1), (Downwards, -1)):
        task = object.__new__(kind)
        assert task.selection_score({"accuracy": 0.5, "loss": 9.0}) == sign * 0.5


@pytest.mark.parametrize(
    ("task", "name", "value", "text"),
    [
        (Classification, "top5", 0.854, "85.40%"),
        (Classification, "ari", -0.0123, "-1.23%"),
        (Counting, "bits", 1.23456, "1.2346"),
        (Counting, "classes", 10.0, "10"),
        (Counting, "top5", 0.854, "85.40%"),
        (Downwards, "top5", 0.854, "0.8540"),
    ],
)
def test_a_further_figure_is_shown_in_per_cent_only_if_it_is_a_share(
    task: type[Classification], name: str, value: float, text: str
) -> None:
    assert task.figure(name).show(value) == text


def test_an_example_has_an_article() -> None:
    assert (Classification.one(), Downwards.one()) == ("an image", "a token")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_made_up_input_is_a_batch_of_images(device: str) -> None:
    config: ComponentConfig = Classification.Config()
    x = Classification.example_input(config, Classification.inputs(10), 8, 4, torch.device(device))
    assert (x.shape, x.device.type) == ((4, 3, 8, 8), device)


def test_a_head_shares_nothing_with_the_stem_by_default() -> None:
    config = Classification.Config()
    stem = Classification.stem(config, 3, 4)
    head = Classification.tied_head(config, (8,), 5, stem)
    assert isinstance(head, nn.Module)
    assert not {id(weight) for weight in head.parameters()} & {id(weight) for weight in stem.parameters()}


def test_a_task_written_for_0_1_says_its_metric_by_its_older_names() -> None:
    with pytest.warns(DeprecationWarning, match=r"Older\.score is called metric"):

        class Older(Classification):
            score = "bits"
            is_share = False
            higher_is_better = False

    assert Older.metric == Metric("bits", is_share=False, higher_is_better=False)


def test_methods_by_their_older_names_are_taken() -> None:
    with pytest.warns(DeprecationWarning, match=r"Older\.rate is called lr_scale"):

        class Older(Classification):
            def rate(self, batch: object) -> float:
                return 0.25

    assert object.__new__(Older).lr_scale(None) == 0.25  # type: ignore[arg-type]
