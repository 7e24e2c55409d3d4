"""Class folders whose parts hold different classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datanas.core.errors import DataError
from datanas.data.sets.class_folders import ClassFolders

MakeFolder = Callable[..., Path]


def load(root: Path, **settings: Any) -> Any:
    return ClassFolders(ClassFolders.Config(root=root, **settings)).load()


def names(data: Any) -> dict[str, tuple[str, ...]]:
    return {name: part.classes for name, part in data.parts().items()}


def test_parts_are_folders(make_folder: MakeFolder) -> None:
    make_folder("train", ("ant", "bee", "cow"))
    root = make_folder("test", ("dog", "eel"))
    assert names(load(root)) == {"train": ("ant", "bee", "cow"), "test": ("dog", "eel")}
    make_folder("val", ("fox",))
    data = load(root, channels=1)
    assert names(data) == {"train": ("ant", "bee", "cow"), "validation": ("fox",), "test": ("dog", "eel")}
    assert data.image_shape == (1, 4, 6)
    assert torch.bincount(data.train.images.labels).tolist() == [5, 5, 5]


def test_without_parts_whole_classes_are_for_testing(make_folder: MakeFolder) -> None:
    root = make_folder("", "abcdefghij", per_class=2)
    data = load(root, test_share=0.3)
    assert (len(data.train.classes), len(data.test.classes), data.validation) == (7, 3, None)
    assert sorted((*data.train.classes, *data.test.classes)) == list("abcdefghij")
    assert names(load(root, test_share=0.3)) == names(data)
    assert len({load(root, test_share=0.3, split_seed=seed).test.classes for seed in range(4)}) > 1


def test_broken_images_may_be_left_out(make_folder: MakeFolder) -> None:
    root = make_folder("", ("ant", "bee", "cow"))
    (root / "bee" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bee/0\.png is broken"):
        load(root)
    assert sum(len(part) for part in load(root, skip_broken=True).parts().values()) == 14


def test_a_class_of_two_parts_is_refused(make_folder: MakeFolder) -> None:
    make_folder("train", ("ant", "bee"))
    root = make_folder("test", ("bee", "cow"))
    with pytest.raises(DataError, match=r"class 'bee' is in train and in test; each part needs classes of its own"):
        load(root)


def test_training_classes_without_others_to_test_on_are_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"there is .*train but no class folder in .*test"):
        load(make_folder("train", ("ant", "bee")))


def test_a_folder_that_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no class folders; expected .*CLASS/image\.png"):
        load(tmp_path)


def test_parts_may_be_called_otherwise(make_folder: MakeFolder) -> None:
    make_folder("Training", ("ant", "bee"))
    assert names(load(make_folder("Test_Set", ("dog", "eel")))) == {"train": ("ant", "bee"), "test": ("dog", "eel")}


def test_an_image_of_two_classes_is_told(make_folder: MakeFolder, caplog: pytest.LogCaptureFixture) -> None:
    make_folder("train", ("ant", "bee"))
    load(make_folder("test", ("dog", "eel")))
    assert "images of the part test are images for training too" in caplog.text
    assert "under several labels" in caplog.text
