"""Names of the parts of a data set, in any case and usual spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from datanas.core.errors import DataError
from datanas.data.decode.parts import find_parts, part_of, parts_in

WHERE = "made up"


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("train", ["train", "Train", "TRAIN", "training", "training_set", "TrainingSet", "train-images", "trainset"]),
        ("test", ["test", "Testing", "test_set", "TestData", "testset", "test 2017"]),
        ("validation", ["val", "Valid", "validation", "validation_set", "dev", "eval", "val2017"]),
        (None, ["cat", "train_station", "test_tube", "my_train", "train_test", "contest", "strain", "data", ""]),
    ],
)
def test_a_name_stands_for_a_part(part: str | None, names: list[str]) -> None:
    assert {name: part_of(name) for name in names} == dict.fromkeys(names, part)


def test_a_name_may_mention_a_part_beside_other_words() -> None:
    assert parts_in("ptb.train") == {"train"}
    assert parts_in("train-test") == {"train", "test"}
    assert parts_in("portrait") == set()


def find(*names: str, flat: tuple[str, ...] = (), own: tuple[str, ...] = ()) -> dict[str, str]:
    """What `find_parts` says of folders that all hold the same class folders.

    Args:
        flat: those that hold none.
        own: those that hold one of their own.
    """
    folders = [Path("root", name) for name in names]

    def classes_in(folder: Path) -> list[str]:
        return [] if folder.name in flat else [f"of {folder.name}"] if folder.name in own else ["cat", "dog"]

    found = find_parts(folders, WHERE, classes_in)
    return {part: folder.name for part, folder in found.items()}


def test_folders_for_training_and_testing_are_parts_whatever_holds_them() -> None:
    assert find("Train", "Test") == {"train": "Train", "test": "Test"}
    assert find("Train", "Test", flat=("Train", "Test")) == {"train": "Train", "test": "Test"}
    assert find("seg_train", "seg_val", "seg_test").keys() == {"train", "validation", "test"}
    assert find("training", "validation", "readme_images") == {"train": "training", "validation": "validation"}


def test_a_class_may_be_called_like_a_part() -> None:
    assert find("test", "cat", "dog", flat=("test", "cat", "dog")) == {}
    assert find("test", "train", "cat", flat=("test", "train", "cat")) == {}
    assert find("test", *"abcdef") == {}
    assert find("cat", "dog") == {}
    assert find("dev", "ops", own=("dev", "ops")) == {}
    assert find("test", "blood", "urine", own=("test", "blood", "urine")) == {}


@pytest.mark.parametrize(
    "names", [("trainA", "trainB", "testA", "testB"), ("cats_train", "cats_test", "dogs_train", "dogs_test")]
)
def test_folders_that_all_mention_a_part_are_no_classes_though_they_are_flat(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="look like parts of the data"):
        find(*names, flat=names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Train", "train", "test"), "Train and train both look like the part 'train'"),
        (("train", "test", "testing"), "test and testing both look like the part 'test'"),
        (("test", "my_training"), "test looks like a part of the data, but no folder beside it is named for training"),
        (("cats_train", "dogs_test"), "look like parts of the data, but which is which cannot be told"),
    ],
)
def test_parts_that_cannot_be_placed_are_refused_and_not_taken_for_classes(
    names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find(*names)
