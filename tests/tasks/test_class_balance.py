"""Uneven classes: what they weigh in the loss, and what is measured and told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from tests.tasks.test_classification import DATA, images, task
from torch import nn
from torch.nn import functional as F

from datanas.core.errors import ConfigError, DatanasError
from datanas.data.base import ImageData, ImageSet
from datanas.engine.config import resolve
from datanas.tasks.class_balance import are_uneven, balanced, balanced_accuracy
from datanas.tasks.classification import Classification, ImageBatch

LABELS = torch.tensor([0] * 40 + [1] * 12 + [2] * 8)
UNEVEN = replace(DATA, train=ImageSet(images(60).images, LABELS))


def batch(made: Classification) -> ImageBatch:
    made.split_train(0.0, 30)
    return made.batch("train", 0)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    found = balanced(torch.bincount(LABELS))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert found[LABELS].mean() == pytest.approx(1)


def test_the_threshold_is_four_times() -> None:
    assert not are_uneven(torch.tensor([4, 1]))
    assert are_uneven(torch.tensor([5, 1]))


def test_balanced_accuracy_is_that_of_scikit_learn_and_passes_over_absent_classes() -> None:
    truth, found = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 0, 3])
    hits = torch.tensor([2.0, 1.0, 0.0, 1.0])
    counts = torch.tensor([3.0, 2.0, 0.0, 1.0])
    assert balanced_accuracy(hits, counts) == pytest.approx(balanced_accuracy_score(truth, found))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_weighs_each_image_by_its_class(smoothing: float) -> None:
    made = task(UNEVEN, class_weights="balanced", label_smoothing=smoothing)
    drawn, weights = batch(made), balanced(torch.bincount(LABELS))
    logits = network()(drawn.images)
    each = F.cross_entropy(logits, drawn.labels, weight=weights, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(made.loss(network(), drawn), each.mean())
    assert not torch.isclose(made.loss(network(), drawn), task(UNEVEN).loss(network(), drawn))


def test_given_weights_stand_as_they_are() -> None:
    made, plain = task(UNEVEN, class_weights=[2.0, 2.0, 2.0]), task(UNEVEN)
    drawn = batch(made)
    torch.testing.assert_close(made.loss(network(), drawn), 2 * plain.loss(network(), drawn))


def test_the_auxiliary_tower_is_weighed_too() -> None:
    made = task(UNEVEN, class_weights="balanced", auxiliary_weight=1.0)
    drawn, logits = batch(made), network()(batch(made).images)
    both = made.loss(lambda _: (logits, logits), drawn)
    torch.testing.assert_close(both, 2 * made.loss(lambda _: logits, drawn))


def test_the_evaluation_does_not_know_the_weights() -> None:
    plain, weighed = task(UNEVEN), task(UNEVEN, class_weights="balanced")
    assert plain.evaluate(network(), "test") == weighed.evaluate(network(), "test")


def test_balanced_accuracy_is_measured_of_uneven_classes_alone() -> None:
    made = task(replace(UNEVEN, test=UNEVEN.train))
    figures = made.evaluate(model := network(), "test")
    seen, labels = made.data.test.begin(torch.arange(60))()
    outputs = model((seen / 255 - made.data.mean[:, None, None]) / made.data.std[:, None, None])
    expected = balanced_accuracy_score(labels.numpy(), outputs.argmax(dim=1).numpy())
    assert figures["balanced_accuracy"] == pytest.approx(expected)
    assert figures["balanced_accuracy"] != pytest.approx(figures["accuracy"])
    assert "balanced_accuracy" not in task(DATA).evaluate(network(), "test")


def test_what_is_planned_weighs_uneven_classes_and_says_so() -> None:
    assert task(UNEVEN).suited_settings()["task"]["class_weights"] == "balanced"
    assert "class_weights" not in task(DATA).suited_settings()["task"]
    (note,) = task(UNEVEN, class_weights="balanced").notes()
    assert "8 images of cow, 40 of ant" in note
    assert "the loss weighs them" in note
    assert "does not weigh them" in task(UNEVEN).notes()[0]
    assert task(DATA).notes() == ()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"task\.class_weights: 2 weights for 3 classes; give one each, in the order ant, bee, cow"),
        ([0.0, 0.0, 0.0], "all weights are 0"),
        ([1.0, -1.0, 1.0], "task.class_weights"),
        ("even", r"^task\.class_weights: must be none, balanced or a list of numbers, one a class, got 'even'$"),
        ([1.0, float("inf"), 1.0], "task.class_weights"),
    ],
)
def test_other_weights_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task(DATA, class_weights=weights)


def test_the_command_line_takes_words_and_lists() -> None:
    given: list[tuple[str, object]] = [("task.name", "classification")]
    for text in ("balanced", "none"):
        assert resolve({}, [*given, ("task.class_weights", text)]).task.class_weights == text  # type: ignore[attr-defined]
    found = resolve({}, [*given, ("task.class_weights", [1, 2.5])]).task
    assert found.class_weights == (1.0, 2.5)  # type: ignore[attr-defined]
    with pytest.raises(DatanasError, match="class_weights"):
        resolve({}, [*given, ("task.class_weights", 3)])


def test_weights_need_no_more_than_the_labels_of_training() -> None:
    data = ImageData(UNEVEN.train, DATA.test, DATA.classes)
    assert task(data, class_weights="balanced").notes()
