"""What a task says of its score and its examples where it says nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import nn

from datanas.core.settings import ComponentConfig
from datanas.tasks.classification import Classification


class Downwards(Classification):
    higher_is_better = False
    is_share = False
    unit = "token"


class Counting(Classification):
    plain: ClassVar[Mapping[str, int]] = {"bits": 4, "classes": 0}


def test_goodness_is_higher_for_the_better_score() -> None:
    assert Classification.goodness(0.9) > Classification.goodness(0.8)
    assert Downwards.goodness(80.0) > Downwards.goodness(90.0)


def test_a_search_prefers_the_better_score() -> None:
    for kind in (Classification, Downwards):
        task = object.__new__(kind)
        assert task.selection_score({"accuracy": 0.5, "loss": 9.0}) == kind.goodness(0.5)


@pytest.mark.parametrize(
    ("task", "value", "digits", "text"),
    [
        (Classification, 0.9123, 1, "91.2%"),
        (Classification, 0.9123, 2, "91.23%"),
        (Downwards, 85.27, 1, "85.3"),
        (Downwards, 85.27, 0, "85"),
    ],
)
def test_a_score_is_shown_in_per_cent_only_if_it_is_a_share(
    task: type[Classification], value: float, digits: int, text: str
) -> None:
    assert task.show(value, digits) == text


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
    assert task.show_figure(name, value) == text


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
