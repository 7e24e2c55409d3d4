"""A loss of one's own in the place of a task's: what it is called with, and what it must give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.data.types.masks import VOID
from datanas.tasks.base import Task
from datanas.tasks.classification import Classification, ImageBatch
from datanas.tasks.mask_task import SegmentationBatch
from datanas.tasks.multilabel import Multilabel
from datanas.tasks.regression import Regression
from datanas.tasks.segmentation import Segmentation
from datanas.tasks.target_task import TargetBatch
from datanas.testing.tiny_data import tiny_images, tiny_masks, tiny_numbers, tiny_targets

HERE = __name__
CPU = torch.device("cpu")
cross_entropy = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))


def focal(scores: Tensor, targets: Tensor) -> Tensor:
    log_probs = F.log_softmax(scores, dim=1).gather(1, targets[:, None])[:, 0]
    return -((1 - log_probs.exp()).square() * log_probs).mean()


def absolute(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores - targets).abs().mean()


def by_pixel(scores: Tensor, masks: Tensor) -> Tensor:
    return 3 * F.cross_entropy(scores, masks, ignore_index=VOID)


def draws(scores: Tensor, targets: Tensor) -> Tensor:
    return scores.sum() + torch.rand(())


def of_each(scores: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(scores, targets, reduction="none")


def number(scores: Tensor, targets: Tensor) -> float:
    return 1.0


def detached(scores: Tensor, targets: Tensor) -> Tensor:
    return scores.detach().mean()


def elsewhere(scores: Tensor, targets: Tensor) -> Tensor:
    return torch.ones((), requires_grad=True) * 2


def infinite(scores: Tensor, targets: Tensor) -> Tensor:
    return scores.mean() / 0


def steep(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores * 0).abs().sqrt().mean()


def late(scores: Tensor, targets: Tensor) -> Tensor:
    if len(scores) == 6:
        raise RuntimeError("boom")
    return scores.mean()


def of_one_argument(scores: Tensor) -> Tensor:
    return scores.mean()


def task(name: str, **settings: Any) -> Classification:
    config = validate(Classification.Config, {"loss": f"{HERE}:{name}", **settings}, "task")
    return Classification(config, tiny_images(), CPU, 0)


def batch() -> ImageBatch:
    return ImageBatch(torch.zeros(6, 3, 16, 16), torch.arange(6) % 3, "train")


def scores_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_classes_are_learned_by_it() -> None:
    scores = scores_of(6, 3)
    expected = focal(scores, torch.arange(6) % 3)
    torch.testing.assert_close(task("focal").loss(lambda _: scores, batch()), expected)
    assert not torch.isclose(expected, F.cross_entropy(scores, torch.arange(6) % 3))


def test_a_module_of_torch_will_do() -> None:
    scores = scores_of(6, 3)
    expected = cross_entropy(scores, torch.arange(6) % 3)
    torch.testing.assert_close(task("cross_entropy").loss(lambda _: scores, batch()), expected)


def test_one_that_fails_later_on_is_named() -> None:
    learner = task("late")
    with pytest.raises(ConfigError, match=r"late, called with scores \(6, 3\) .* fails: RuntimeError: boom"):
        learner.loss(lambda _: scores_of(6, 3), batch())


def test_an_auxiliary_tower_learns_by_it_too() -> None:
    first, second, labels = scores_of(6, 3), 2 * scores_of(6, 3), torch.arange(6) % 3
    found = task("focal").loss(lambda _: (first, second), batch())
    torch.testing.assert_close(found, focal(first, labels) + 0.4 * focal(second, labels))


def test_no_figure_knows_it() -> None:
    plain = Classification(validate(Classification.Config, {}, "task"), tiny_images(), CPU, 0)

    def model(x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    assert task("focal").evaluate(model, "test") == plain.evaluate(model, "test")


def test_labels_of_which_several_hold_come_as_0_and_1() -> None:
    made = Multilabel(validate(Multilabel.Config, {"loss": f"{HERE}:absolute"}, "task"), tiny_targets(), CPU, 0)
    scores, targets = scores_of(5, made.num_classes), (scores_of(5, made.num_classes) > 0).float()
    found = made.loss(lambda _: scores, TargetBatch(torch.zeros(5, 3, 16, 16), targets))
    torch.testing.assert_close(found, absolute(scores, targets))


def test_numbers_come_standardised() -> None:
    made = Regression(validate(Regression.Config, {"loss": f"{HERE}:absolute"}, "task"), tiny_numbers(), CPU, 0)
    targets = made.data.train_targets
    mean = targets.mean(dim=0).expand_as(targets)
    found = made.loss(lambda _: mean, TargetBatch(torch.zeros(1), targets))
    deviation = targets.std(dim=0, correction=0)
    torch.testing.assert_close(found, ((targets - mean) / deviation).abs().mean())


def masks_task() -> Segmentation:
    return Segmentation(
        validate(Segmentation.Config, {"loss": f"{HERE}:by_pixel", "crop": 16}, "task"), tiny_masks(), CPU, 0
    )


def test_masks_come_with_their_void() -> None:
    made = masks_task()
    scores = scores_of(2, made.num_classes, 8, 8)
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0] = VOID
    found = made.loss(lambda _: scores, SegmentationBatch(torch.zeros(1), masks, 64))
    torch.testing.assert_close(found, 3 * F.cross_entropy(scores[1:], masks[1:].long()))


def test_masks_of_void_alone_teach_nothing() -> None:
    made = masks_task()
    scores = scores_of(2, made.num_classes, 8, 8).requires_grad_()
    masks = torch.full((2, 8, 8), VOID, dtype=torch.uint8)
    made.loss(lambda _: scores, SegmentationBatch(torch.zeros(1), masks, 0)).backward()
    assert scores.grad is not None
    assert not scores.grad.any()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("of_each", r"must give a scalar, the mean over the batch, gave \(4,\)"),
        ("number", "must give a scalar tensor, gave float"),
        ("detached", "has no gradient in the scores"),
        ("elsewhere", "has no gradient in the scores"),
        ("infinite", "gives -?inf, which is not finite"),
        ("steep", "has a gradient that is not finite"),
        ("of_one_argument", r"called with scores \(4, 3\) and int64 targets \(4,\), fails: TypeError"),
        ("absolute", "fails: RuntimeError"),
    ],
)
def test_what_gives_no_loss_is_refused_before_the_first_step(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        task(name)
    assert str(error.value).startswith("task.loss: ")


@pytest.mark.parametrize(
    "other", [{"class_weights": "balanced"}, {"class_weights": [1, 2, 3]}, {"label_smoothing": 0.1}]
)
def test_what_belongs_to_the_task_s_own_loss_is_refused_beside_it(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"task: {min(other)}: .*and loss says {HERE}:focal"):
        task("focal", **other)


def test_what_it_draws_is_keyed_by_the_step() -> None:
    """A block around a task that calls somebody's function reaches torch's own generators."""
    made: Task[Any] = task("draws")
    assert seeding.reach_of(made) == "process"
    assert seeding.reach_of(Classification(validate(Classification.Config, {}, ""), tiny_images(), CPU, 0)) == "asking"


def test_weights_of_uneven_classes_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.tasks.classification.are_uneven", lambda counts: True)
    made = task("focal")
    assert "class_weights" not in made.suited_settings()["task"]
    assert f"up to {HERE}:focal" in made.notes()[0]
