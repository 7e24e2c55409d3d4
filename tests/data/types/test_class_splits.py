"""Parts of whole classes: what is selected, how classes are shared out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from datanas.core.errors import DataError
from datanas.data.base import ImageData, ImageSet
from datanas.data.types.class_splits import (
    ClassSet,
    ClassSplitData,
    check_class_splits,
    choose_classes,
    regroup,
    split_classes,
)


def classes(names: str, each: int = 2, size: int = 3) -> ClassSet:
    """Images whose pixels all are the code of their class's letter."""
    labels = torch.arange(len(names) * each) % len(names)
    codes = torch.tensor([ord(name) for name in names], dtype=torch.uint8)
    images = codes[labels][:, None, None, None].expand(-1, 1, size, size).contiguous()
    return ClassSet(ImageSet(images, labels), tuple(names))


def letters(part: ClassSet) -> list[str]:
    """The class of each image, by its pixels; labels must say the same."""
    found = [chr(int(pixel)) for pixel in part.images.images[:, 0, 0, 0]]
    assert found == [part.classes[label] for label in part.images.labels.tolist()]
    return found


def test_selected_classes_are_counted_anew() -> None:
    found = classes("abcd").select(torch.tensor([3, 1]))
    assert found.classes == ("d", "b")
    assert sorted(letters(found)) == ["b", "b", "d", "d"]


@pytest.mark.parametrize(("share", "expected"), [(Fraction(1, 2), 5), (Fraction(1, 5), 2), (Fraction(1, 100), 1)])
def test_chosen_classes_are_a_share_and_the_rest(share: Fraction, expected: int) -> None:
    first, second = choose_classes(10, share, 0, "split")
    assert len(first) == expected
    assert sorted(first.tolist() + second.tolist()) == list(range(10))
    assert len({tuple(choose_classes(10, share, seed, "split")[0].tolist()) for seed in range(5)}) > 1


def test_a_split_leaves_no_class_in_both_parts() -> None:
    train, test = split_classes(classes("abcdefgh"), Fraction(1, 4), 0)
    assert (len(train.classes), len(test.classes)) == (6, 2)
    assert sorted(letters(train) + letters(test)) == sorted(2 * "abcdefgh")
    assert not set(letters(train)) & set(letters(test))


def test_regrouped_classes_keep_their_images_of_both_parts() -> None:
    both = classes("abcd", each=3)
    data = ImageData(both.images.select(torch.arange(8)), both.images.select(torch.arange(8, 12)), both.classes)
    found = regroup(data, Fraction(1, 2), 0)
    assert found.validation is None
    assert sorted(letters(found.train) + letters(found.test)) == sorted(3 * "abcd")
    assert not set(found.train.classes) & set(found.test.classes)


def test_statistics_are_those_of_the_training_images() -> None:
    data = ClassSplitData(classes("ac"), classes("x"), classes("z"))
    assert data.mean.item() == pytest.approx(ord("b") / 255)
    assert data.std.item() == pytest.approx(1 / 255)
    assert data.image_shape == (1, 3, 3)
    assert list(data.parts()) == ["train", "validation", "test"]


GOOD = ClassSplitData(classes("abc"), classes("de"), classes("fg"))
EMPTY = ClassSet(classes("fg").images, ("f", "g", "h"))
BROKEN = [
    (replace(GOOD, test=classes("ga")), r"here: class 'a' is in train and in test; each part needs classes of its own"),
    (replace(GOOD, validation=ClassSet(classes("de").images, ("d", "d"))), r"class 'd' is twice in validation"),
    (
        replace(GOOD, test=classes("fg", size=4)),
        r"train and test images differ: \(1, 3, 3\) torch\.uint8 and \(1, 4, 4\)",
    ),
    (replace(GOOD, test=EMPTY), r"class 'h' of test has no images"),
    (replace(GOOD, test=ClassSet(classes("fg").images, ("f",))), r"here: test image 1 has the label 1; .* 0\.\.0"),
]


@pytest.mark.parametrize(("data", "message"), BROKEN)
def test_faults_are_named(data: ClassSplitData, message: str) -> None:
    check_class_splits(GOOD, "here")
    with pytest.raises(DataError, match=message):
        check_class_splits(data, "here")
