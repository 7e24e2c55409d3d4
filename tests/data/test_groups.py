"""Examples of one group are on one side of every split, whatever the data set and the task."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas.core.errors import DataError
from datanas.data.base import ImageData, ImageSet, ImageSets
from datanas.data.batches import held_out, left_to_judge, split
from datanas.data.groups import numbered, split_whole_groups
from datanas.data.sets.csv import Csv
from datanas.data.sets.folder import Folder
from datanas.data.sets.image_files import ImageFiles
from datanas.data.sets.npz import Npz
from datanas.engine.config import resolve
from datanas.engine.setup import load_task

Make = Callable[..., Path]
examples = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), min_size=2, max_size=80)


def pairs(drawn: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    labels, groups = zip(*drawn, strict=True)
    return torch.tensor(labels), torch.tensor(groups)


def split_first(labels: Tensor, groups: Tensor, share: Fraction, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A split whose first part is learned from."""
    return split_whole_groups(labels, groups, share, seed, "test", learns_first=True)


def are_apart(groups: Tensor, first: Tensor, second: Tensor) -> bool:
    return not set(groups[first].tolist()) & set(groups[second].tolist())


@settings(max_examples=150, deadline=None)
@given(drawn=examples, tenths=st.integers(1, 9), seed=st.integers(0, 3), learns_first=st.booleans())
def test_groups_stay_together_and_nothing_is_lost(
    drawn: list[tuple[int, int]], tenths: int, seed: int, learns_first: bool
) -> None:
    """And every class is learned from."""
    labels, groups = pairs(drawn)
    groups_of = [set(groups[labels == label].tolist()) for label in labels.unique()]
    only = {group for each in groups_of for group in each if len(each) == 1}
    share = Fraction(tenths, 10)
    if set(groups.tolist()) <= only:
        with pytest.raises(DataError, match=f"{len(drawn)} examples of .* each the only one of a class, cannot be"):
            split_whole_groups(labels, groups, share, seed, "test", learns_first=learns_first)
        return
    first, second = split_whole_groups(labels, groups, share, seed, "test", learns_first=learns_first)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    assert first.tolist() == sorted(first.tolist())
    assert second.tolist() == sorted(second.tolist())
    assert len(first)
    assert len(second)
    assert are_apart(groups, first, second)
    learned = first if learns_first else second
    assert only <= set(groups[learned].tolist())
    assert set(labels[learned].tolist()) == set(labels.tolist())


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=12), min_size=1, max_size=4),
    tenths=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_groups_of_one_class_each_hold_the_share(sizes: list[list[int]], tenths: int, seed: int) -> None:
    """Of each class no part is further from its share than its largest group, and every class is in both parts."""
    labels = torch.tensor([label for label, each in enumerate(sizes) for size in each for _ in range(size)])
    groups = torch.tensor(
        [
            100 * label + index
            for label, each in enumerate(sizes)
            for index, size in enumerate(each)
            for _ in range(size)
        ]
    )
    first, _ = split_first(labels, groups, Fraction(tenths, 10), seed)
    for label, each in enumerate(sizes):
        taken = int((labels[first] == label).sum())
        assert abs(taken - sum(each) * tenths / 10) <= max(each)
        assert 0 < taken < sum(each)


def test_a_class_that_one_part_lacks_is_brought_there() -> None:
    """A large and a small group of a class: a tenth of it is nearer to none than to either."""
    labels = torch.tensor([0] * 30 + [1] * 30)
    groups = torch.tensor([0] * 20 + [1] * 10 + [2] * 20 + [3] * 10)
    for seed in range(5):
        first, _ = split_whole_groups(labels, groups, Fraction(1, 10), seed, "test", learns_first=False)
        assert set(groups[first].tolist()) == {1, 3}


@pytest.mark.parametrize("others", [10, 2])
@pytest.mark.parametrize("ratio", ["1:1", "1:2"])
def test_a_class_of_one_group_is_learned_from(others: int, ratio: str) -> None:
    """It is with the weights, and neither held out nor with the judge, be its group the smallest of few or not."""
    labels = torch.tensor([0, 0, 1, 1] * 10 * others + [2] * 6)
    groups = torch.cat([torch.arange(40 * others) // 40, torch.full((6,), 99)])
    assert 99 in groups[split(labels, ratio, 0, groups)[0]]
    for held, _ in (held_out(labels, 0.2, 0, groups), left_to_judge(labels, 0.2, groups)):
        assert 99 not in groups[held]
        assert len(held)


def test_a_split_of_groups_depends_on_its_seed_alone() -> None:
    labels, groups = torch.arange(400) % 4, torch.arange(400) // 5
    state = torch.get_rng_state()
    first, again, other = (split(labels, "1:1", seed, groups)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_groups_of_one_example_are_split_as_evenly_as_can_be() -> None:
    labels, groups = torch.arange(300) % 3, torch.arange(300)
    for held, _ in (held_out(labels, 0.2, 0, groups), left_to_judge(labels, 0.2, groups)):
        assert torch.bincount(labels[held]).tolist() == [20, 20, 20]


def test_as_many_groups_as_examples_and_many_classes_are_split() -> None:
    labels = torch.arange(40_000) % 1000
    first, _ = split_first(labels, torch.arange(40_000), Fraction(1, 2))
    assert torch.bincount(labels[first]).unique().tolist() == [20]


def test_names_are_numbered_in_the_order_in_which_they_come() -> None:
    assert numbered(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_groups_are_those_of_the_images_for_training() -> None:
    images = ImageSet(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"4 images for training but groups of shape \[3\]"):
        ImageData(images, images, ("a", "b"), train_groups=torch.arange(3))


class TestDataSets:
    """What each data set takes for a group."""

    def table(self, root: Path, head: str) -> Path:
        """Rows of images, each pair of which is of one patient."""
        files = sorted(root.glob("*/*.png"))
        rows = [f"{file.relative_to(root)},{file.parent.name},p{place // 2}" for place, file in enumerate(files)]
        table = root / "table.csv"
        table.write_text("\n".join([head, *rows]) + "\n")
        return table

    @pytest.mark.parametrize(
        ("head", "settings"), [("path,label,group", {}), ("path,label,id", {"group_column": "id"})]
    )
    def test_a_column_of_a_table(self, make_folder: Make, head: str, settings: Mapping[str, Any]) -> None:
        root = make_folder(per_class=8)
        found = Csv(Csv.Config(root=self.table(root, head), **settings)).load()
        assert found.train_groups is not None
        assert torch.bincount(found.train_groups).unique().tolist() == [0, 2]  # pairs, whole or tested on
        assert len(found.train) + len(found.test) == 16

    def test_a_column_that_is_not_there(self, make_folder: Make) -> None:
        table = self.table(make_folder(), "path,label,group")
        with pytest.raises(
            DataError, match=r"no column 'patient' \(data.group_column\); the table has path, label, group"
        ):
            Csv(Csv.Config(root=table, group_column="patient")).load()

    @pytest.mark.parametrize("is_whole", [True, False])
    @pytest.mark.parametrize("targets", ["classes", "numbers"])
    def test_arrays(self, save_npz: Callable[..., Path], is_whole: bool, targets: str) -> None:
        x = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)
        y = np.arange(400) % 2 if targets == "classes" else np.arange(400) * 37 % 400 / 7
        groups = np.array([f"patient {index // 4}" for index in range(400)])
        arrays = {"x": x, "y": y, "groups": groups}
        if not is_whole:
            arrays = {"train_x": x, "train_y": y, "train_groups": groups, "test_x": x[:9], "test_y": y[:9]}
        found = Npz(Npz.Config(root=save_npz(**arrays))).load()
        assert found.train_groups is not None
        assert len(found.train_groups) == len(found.train)
        assert abs(len(found.train) - (320 if is_whole else 400)) <= (12 if targets == "numbers" else 0)
        assert set(torch.bincount(found.train_groups).tolist()) <= {0, 4}

    @pytest.mark.parametrize("groups", [np.arange(5), np.zeros((6, 1), int), np.linspace(0, 1, 6)])
    def test_arrays_of_other_shapes_are_refused(self, save_npz: Callable[..., Path], groups: np.ndarray) -> None:
        x = np.zeros((6, 8, 8), np.uint8)
        file = save_npz(x=x, y=np.array([0, 1] * 3), groups=groups)
        with pytest.raises(DataError, match="groups must be 6 whole numbers or names, one an image, got"):
            Npz(Npz.Config(root=file)).load()

    def test_groups_of_no_images_are_refused(self, save_npz: Callable[..., Path]) -> None:
        x, y = np.zeros((6, 8, 8), np.uint8), np.array([0, 1] * 3)
        file = save_npz(train_x=x, train_y=y, test_x=x, test_y=y, groups=np.arange(6))
        with pytest.raises(DataError, match="groups are groups of no images; those of train_x are called train_groups"):
            Npz(Npz.Config(root=file)).load()

    def test_groups_that_are_in_both_parts_are_told(
        self, save_npz: Callable[..., Path], make_folder: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Of arrays, and of a table with a column of parts."""
        x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
        y, groups = np.array([0, 1] * 3), np.array(["a", "b", "c", "d", "e", "f"])
        both = {"train_x": x, "train_y": y, "train_groups": groups, "test_x": 255 - x, "test_y": y}
        Npz(Npz.Config(root=save_npz(**both, test_groups=groups[[0, 1, 1, 1, 1, 1]]))).load()
        root = make_folder(per_class=6)
        files = sorted(root.glob("*/*.png"))
        parts = ["test" if index % 3 else "train" for index in range(len(files))]
        rows = [
            f"{each.relative_to(root)},{each.parent.name},{index // 6},{parts[index]}"
            for index, each in enumerate(files)
        ]
        (root / "table.csv").write_text("\n".join(["path,label,group,split", *rows]))
        Csv(Csv.Config(root=root / "table.csv")).load()
        told = [each.message.partition(": ")[2] for each in caplog.records if "are groups of those" in each.message]
        assert [each.split()[0] for each in told] == ["2", "2"]

    def test_a_row_without_a_group_stands_for_itself(self, make_folder: Make) -> None:
        root = make_folder(per_class=8)
        table = self.table(root, "path,label,group")
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([head, *(row.rpartition(",")[0] + "," for row in rows)]))
        found = Csv(Csv.Config(root=table)).load()
        assert found.train_groups is not None
        assert len(found.train_groups.unique()) == len(found.train)

    def test_a_class_may_be_called_a_group(self, make_folder: Make) -> None:
        root = make_folder(per_class=5)
        rows = [f"{each.relative_to(root)},{each.parent.name}" for each in sorted(root.glob("*/*.png"))]
        (root / "table.csv").write_text("\n".join(["path,group", *rows]))
        found = Csv(Csv.Config(root=root / "table.csv")).load()
        assert (found.classes, found.train_groups) == (("ant", "bee"), None)

    def test_groups_may_be_left_out_of_account(self, make_folder: Make, save_npz: Callable[..., Path]) -> None:
        x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
        file = save_npz(x=x, y=np.array([0, 1] * 3), groups=np.arange(6))
        assert Npz(Npz.Config(root=file, use_groups=False)).load().train_groups is None
        table = self.table(make_folder(per_class=5), "path,label,group")
        assert Csv(Csv.Config(root=table, use_groups=False)).load().train_groups is None

    def test_folders_inside_a_class(self, make_folder: Make) -> None:
        root = make_folder(per_class=6)
        for number, file in enumerate(sorted(root.glob("*/*.png"))):
            inner = file.parent / f"patient{number % 3 + 3 * (number >= 6)}"
            inner.mkdir(exist_ok=True)
            file.rename(inner / file.name)
        found = Folder(Folder.Config(root=root, group_by_folder=True, test_share=0.3)).load()
        assert found.train_groups is not None
        assert torch.bincount(found.train_groups).tolist() == [2] * 4
        assert torch.bincount(found.test.labels).tolist() == [2, 2]
        parts = root.parent / "parts"
        for part in ("train", "test"):
            shutil.copytree(root, parts / part)
        files = ImageFiles(ImageFiles.Config(root=parts, size=4, resize=4, group_by_folder=True)).load()
        assert files.train_groups is not None
        assert torch.bincount(files.train_groups).tolist() == [2] * 6

    def test_images_in_the_folder_of_their_class_stand_for_themselves(
        self, make_folder: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = make_folder(per_class=5)
        found = Folder(Folder.Config(root=root, group_by_folder=True)).load()
        assert found.train_groups is not None
        assert len(found.train_groups.unique()) == len(found.train)
        assert "no image lies in a folder inside its class, so none belong together" in caplog.text
        assert Folder(Folder.Config(root=root)).load().train_groups is None


@pytest.mark.parametrize("name", ["classification", "multilabel", "regression"])
def test_no_part_of_a_task_shares_a_group_with_another(save_npz: Callable[..., Path], name: str) -> None:
    """Judge, weights, alpha, and what a training holds out."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (120, 16, 16), dtype=np.uint8)
    labels = {"classification": np.arange(120) % 3, "multilabel": random.integers(0, 2, (120, 3))}
    file = save_npz(x=x, y=labels.get(name, np.arange(120) / 7), groups=np.arange(120) // 4)
    settings = {"name": name, "train_augment": {"cutout": 0}}
    config = resolve({"data": {"name": "npz", "root": str(file)}, "task": settings})
    task = load_task(config, torch.device("cpu"))
    task.set_aside(0.2)
    task.split_search("1:1", 8, None)
    groups = groups_of(task)
    assert f"the images for training are in {len(groups.unique())} groups, which no split parts" in task.notes()
    parts = [set(groups[task.chosen()[part]].tolist()) for part in ("validation", "weights", "alpha")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    training = load_task(config, torch.device("cpu"))
    training.split_train(0.25, 8)
    assert are_apart(groups, training.chosen()["validation"], training.chosen()["train"])


def groups_of(task: Any) -> Tensor:
    data: ImageSets = task.data
    assert data.train_groups is not None
    return data.train_groups


def test_bands_of_photographs_are_groups() -> None:
    """What is held out of the embedded photographs is of other places than what is learned from."""
    pytest.importorskip("skimage", reason="scikit-image (datanas[demo]) is not installed")
    task = load_task(resolve({"data": {"name": "photos"}}), torch.device("cpu"))
    data: ImageData = task.data  # type: ignore[attr-defined]
    task.set_aside(None)
    groups = groups_of(task)
    assert torch.bincount(groups).tolist().count(0) == 0
    assert len(groups.unique()) == 50
    judged = task.chosen()["validation"]
    assert len(groups[judged].unique()) == 10  # one band of each
    assert torch.bincount(data.train.labels[judged]).min() >= 50
