"""Several labels an image: the loss, the figures, and what the network learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F

from datanas.core.errors import ConfigError
from datanas.core.processes import Processes
from datanas.core.settings import validate
from datanas.tasks.classification import Classification
from datanas.tasks.multilabel import Multilabel, macro_f1, mean_average_precision, resampled_precision
from datanas.testing.tiny_data import tiny_images, tiny_numbers, tiny_targets
from datanas.testing.two_processes import together

CPU = torch.device("cpu")


def task(**settings: Any) -> Multilabel:
    return Multilabel(validate(Multilabel.Config, settings, "task"), tiny_targets(), CPU, 0)


def average_precision(scores: Tensor, held: Tensor) -> float:
    """By its definition: the mean, over the images of a label, of the precision at their rank."""
    order = scores.argsort(descending=True)
    hits = held[order]
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return float(precision[hits > 0].mean())


def test_the_mean_average_precision_is_that_of_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, held = torch.randn(50, 4, generator=generator), (torch.rand(50, 4, generator=generator) < 0.3).float()
    expected = sum(average_precision(*pair) for pair in zip(scores.T, held.T, strict=True)) / 4
    assert mean_average_precision(scores, held) == pytest.approx(expected)


def test_labels_that_hold_in_no_image_do_not_count() -> None:
    scores, held = torch.tensor([[3.0, 1], [2, 2], [1, 3]]), torch.tensor([[1.0, 0], [0, 0], [1, 0]])
    assert mean_average_precision(scores, held) == pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision(scores, torch.zeros(3, 2)) == 0.0
    said = torch.tensor([[True, False], [True, True], [False, True]])
    assert macro_f1(said, held.bool()) == 0.5
    assert macro_f1(said, torch.zeros(3, 2, dtype=torch.bool)) == 0.0


@pytest.mark.parametrize("ties", [False, True])
def test_the_precision_of_a_choice_is_that_of_its_images(ties: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, held = torch.randn(40, 3, generator=generator), (torch.rand(40, 3, generator=generator) < 0.2).float()
    scores, held[:, 2] = (scores.round() if ties else scores), 0
    chosen = torch.randint(40, (5, 40), generator=generator)
    counts = torch.stack([torch.bincount(each, minlength=40) for each in chosen]).double()
    expected = [mean_average_precision(scores[each], held[each]) for each in chosen]
    assert resampled_precision(scores, held, counts).tolist() == pytest.approx(expected)


def test_a_choice_in_which_no_label_holds_has_a_precision_of_0() -> None:
    held = torch.tensor([[1.0], [0.0]])
    counts = torch.tensor([[0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    assert resampled_precision(torch.tensor([[1.0], [0.0]]), held, counts).tolist() == [0.0, 1.0]


def test_the_macro_f1_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    said, held = torch.rand(2, 50, 4, generator=generator) < 0.3
    expected = f1_score(held.numpy(), said.numpy(), average="macro")
    assert macro_f1(said, held) == pytest.approx(expected)
    single = f1_score(held[:, 0].numpy(), said[:, 0].numpy())
    assert macro_f1(said[:, :1], held[:, :1]) == pytest.approx(single)


def test_the_loss_is_binary_cross_entropy_with_that_of_the_tower() -> None:
    made = task(auxiliary_weight=0.5)
    made.split_train(0.0, 6)
    batch = made.batch("train", 0)
    first, second = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    expected = F.binary_cross_entropy_with_logits(first, batch.targets)
    torch.testing.assert_close(made.loss(lambda _: first, batch), expected)
    both = expected + 0.5 * F.binary_cross_entropy_with_logits(second, batch.targets)
    torch.testing.assert_close(made.loss(lambda _: (first, second), batch), both)


def test_a_batch_has_the_targets_of_its_images() -> None:
    made = task(train_augment={"crop_padding": 0, "cutout": 0})
    made.split_train(0.0, 6)
    drawn, places, _ = made._drawn("train", 3)
    batch = made.batch("train", 3)
    known = made.data.train.images.flatten(1)
    rows = [int((known == image).all(dim=1).nonzero()[0]) for image in drawn.flatten(1)]
    assert torch.equal(batch.targets, made.data.train_targets[rows])
    assert len(places) == 6


def test_perfect_scores_have_perfect_figures_and_none_others() -> None:
    made = task()
    targets = made.data.test_targets
    assert made.figures(20 * targets - 10, targets) == {"map": 1.0, "macro_f1": 1.0, "subset_accuracy": 1.0}
    reversed_ = made.figures(10 - 20 * targets, targets)
    assert reversed_["subset_accuracy"] == reversed_["macro_f1"] == 0.0
    assert reversed_["map"] < 0.5


def test_the_evaluation_sees_every_image_of_the_part_in_its_place() -> None:
    """A network that knows the pixels of each image and says its targets."""
    made = task()
    known = {
        tuple(image.flatten().tolist()): row
        for image, row in zip(
            ((made.data.test.images / 255 - made.data.mean[:, None, None]) / made.data.std[:, None, None])
            .mean((2, 3))
            .round(decimals=3),
            made.data.test_targets,
            strict=True,
        )
    }

    def oracle(images: Tensor) -> Tensor:
        return torch.stack(
            [20 * known[tuple(each.flatten().tolist())] - 10 for each in images.mean((2, 3)).round(decimals=3)]
        )

    assert made.evaluate(oracle, "test")["subset_accuracy"] == 1.0


def test_two_processes_measure_what_one_does() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))

    def of_one(processes: Processes) -> dict[str, float]:
        made = task()
        made.processes = processes
        return made.evaluate(network, "test")

    whole = task().evaluate(network, "test")
    assert [*together(of_one)] == [whole, whole]


def test_other_data_are_refused_with_the_task_that_takes_them() -> None:
    config = validate(Multilabel.Config, {}, "task")
    with pytest.raises(ConfigError, match="takes images with several labels"):
        Multilabel(config, tiny_images(), CPU, 0)
    with pytest.raises(ConfigError, match="takes images with labels, and these have numbers"):
        Multilabel(config, tiny_numbers(), CPU, 0)
    with pytest.raises(ConfigError, match=r"these have labels, for which there is --task\.name multilabel"):
        Classification(validate(Classification.Config, {}, "task"), tiny_targets(), CPU, 0)


def test_shuffled_labels_are_the_same_rows_elsewhere() -> None:
    made, before = task(), task().data.train_targets
    made.shuffle_labels()
    after = made.data.train_targets
    assert not torch.equal(before, after)
    assert sorted(before.tolist()) == sorted(after.tolist())
