from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from datanas.core.exhibits import Confusion, FigureTable, Pictures
from datanas.data.base import ImageData, ImageSet
from datanas.tasks.class_exhibits import MOST_CLASSES, class_exhibits, confusion_counts
from datanas.tasks.classification import Classification
from datanas.tasks.thumbnails import picture_file, to_pixels

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
ANSWERS = torch.tensor([0, 1, 0, 1, 2, 2, 2, 0, 2])


def test_counts_and_figures_of_classes_are_those_of_scikit_learn() -> None:
    counts = confusion_counts(LABELS, ANSWERS, 3)
    assert counts.tolist() == confusion_matrix(LABELS, ANSWERS).tolist()
    matrix, table = class_exhibits(counts, ["a", "b", "c"])
    assert isinstance(matrix, Confusion)
    assert isinstance(table, FigureTable)
    precision, recall, f1, there = precision_recall_fscore_support(LABELS, ANSWERS)
    for row, *expected in zip(table.rows, there, recall, precision, f1, strict=True):
        assert row[1:] == pytest.approx(expected)


def test_a_class_without_images_has_no_recall_and_one_that_nothing_is_taken_for_no_precision() -> None:
    _, table = class_exhibits(confusion_counts(torch.tensor([0]), torch.tensor([1]), 3), ["a", "b", "c"])
    assert isinstance(table, FigureTable)
    assert [row[2:] for row in table.rows] == [[0.0, None, 0.0], [None, 0.0, 0.0], [None, None, None]]


def test_of_very_many_classes_no_matrix_is_kept() -> None:
    names = [str(number) for number in range(MOST_CLASSES + 1)]
    assert [each.kind for each in class_exhibits(torch.eye(len(names), dtype=torch.int64), names)] == ["table"]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_small_picture_keeps_its_pixels(channels: int, mode: str) -> None:
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    for given in (image, image / 255):
        found = Image.open(io.BytesIO(picture_file(to_pixels(given))))
        assert (found.format, found.mode, found.size) == ("PNG", mode, (7, 5))
        assert np.array_equal(np.array(found).reshape(5, 7, channels), image.permute(1, 2, 0).numpy())


def test_a_large_picture_becomes_small() -> None:
    content = picture_file(to_pixels(torch.randint(0, 256, (3, 300, 200), dtype=torch.uint8)))
    found = Image.open(io.BytesIO(content))
    assert (found.format, found.size) == ("JPEG", (64, 96))
    assert len(content) < 10_000


def test_the_mistakes_are_those_that_the_network_was_surest_of() -> None:
    """The model takes all images for the second class, the brighter the surer."""
    images = torch.arange(0, 240, 10, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    labels = torch.arange(len(images)) % 2
    part = ImageSet(images, labels)
    data = ImageData(part, part, ("dark", "bright"))
    config = Classification.Config()
    task = Classification(config, data, torch.device("cpu"), 0)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack((x.mean(dim=(1, 2, 3)) * 0, x.mean(dim=(1, 2, 3)) + 10), dim=1)

    matrix, _, pictures = task.evaluate_fully(model, "test").exhibits()
    assert isinstance(matrix, Confusion)
    assert matrix.counts == [[0, 12], [0, 12]]
    assert isinstance(pictures, Pictures)
    shown = [np.array(Image.open(io.BytesIO(base64.b64decode(each.content))))[0, 0, 0] for each in pictures.pictures]
    assert shown == list(range(220, -1, -20))
    assert pictures.pictures[0].caption == "dark, taken for bright (100%)"


def test_without_mistakes_none_are_shown() -> None:
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    images[2:] = 200
    part = ImageSet(images, torch.tensor([0, 0, 1, 1]))
    task = Classification(Classification.Config(), ImageData(part, part, ("a", "b")), torch.device("cpu"), 0)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack((-x.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3))), dim=1)

    assert [each.kind for each in task.evaluate_fully(model, "test").exhibits()] == ["confusion", "table"]
