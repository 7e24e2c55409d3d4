"""Images with several labels, or numbers, each: how they are told, balanced, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.base import ImageData
from datanas.data.sets.csv import Csv
from datanas.data.sets.npz import Npz
from datanas.data.types.targets import TargetData, kind_of, strata_of

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
LABELS = np.stack([np.arange(40) % 2, np.arange(40) % 8 == 0, np.arange(40) % 3 > 0], axis=1).astype(np.int64)


def npz(folder: Path, y: Any, **more: Any) -> TargetData:
    settings = {name: more.pop(name) for name in ("targets", "test_share") if name in more}
    np.savez(folder / "mine.npz", **({"x": X, "y": y} | more))
    found = Npz(Npz.Config(root=folder / "mine.npz", **settings)).load()
    assert isinstance(found, TargetData)
    return found


def table(folder: Path, cells: Sequence[str], parts: Sequence[str] = (), **settings: Any) -> TargetData | ImageData:
    lines = ["path,targets" + (",split" if parts else "")]
    for place, cell in enumerate(cells):
        Image.fromarray(X[place]).save(folder / f"{place}.png")
        lines.append(f"{place}.png,{cell}" + (f",{parts[place]}" if parts else ""))
    (folder / "table.csv").write_text("\n".join(lines))
    return Csv(Csv.Config(root=folder / "table.csv", **settings)).load()


def test_the_form_of_targets_tells_what_they_are() -> None:
    assert kind_of(torch.tensor([[1, 0], [1, 1]])) == "labels"
    assert kind_of(torch.tensor([[1, 0], [0, 1]])) is None
    assert kind_of(torch.tensor([[1, 0], [2, 1]])) == "numbers"
    assert kind_of(torch.tensor([0.5, 1.0])) == "numbers"
    assert kind_of(torch.tensor([2.0, 1.0])) is None
    assert kind_of(torch.tensor([2, 1])) is None


def test_each_part_has_images_of_the_rarest_label(tmp_path: Path) -> None:
    data = npz(tmp_path, LABELS)
    assert data.kind == "labels"
    assert (len(data.train), len(data.test)) == (32, 8)
    assert data.test_targets[:, 1].sum() == 1
    strata = strata_of(torch.from_numpy(LABELS).float(), "labels")
    assert (strata[::8] == 1).all()
    assert set(strata.tolist()) == {0, 1, 2, 3}


def test_parts_of_numbers_have_the_whole_range(tmp_path: Path) -> None:
    y = RNG.permutation(40) + 0.5
    data = npz(tmp_path, y)
    assert (data.kind, data.classes) == ("numbers", ("y",))
    assert sorted((data.test_targets[:, 0] // 10).tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    rows = {float(row): image for row, image in zip(y, X, strict=True)}
    for image, target in zip(data.test.images, data.test_targets, strict=True):
        assert np.array_equal(image.permute(1, 2, 0), rows[float(target)])


def test_named_parts_and_columns_are_kept(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"train_x": X[:30], "train_y": LABELS[:30], "test_x": X[30:], "test_y": LABELS[30:]}
    np.savez(tmp_path / "mine.npz", **arrays, classes=np.array(["odd", "eighth", "third"]))
    data = Npz(Npz.Config(root=tmp_path / "mine.npz")).load()
    assert isinstance(data, TargetData)
    assert data.classes == ("odd", "eighth", "third")
    assert torch.equal(data.test_targets, torch.from_numpy(LABELS[30:]).float())


def test_whole_numbers_are_classes_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    data = npz(tmp_path, np.arange(40) * 3, targets="numbers")
    assert torch.cat([data.train_targets, data.test_targets]).max() == 117


def test_a_row_with_a_single_1_is_a_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(tmp_path / "mine.npz", x=X, y=np.eye(4)[np.arange(40) % 4])
    data = Npz(Npz.Config(root=tmp_path / "mine.npz")).load()
    assert isinstance(data, ImageData)
    assert len(data.classes) == 4
    assert "a single 1 and is taken for a class" in caplog.text


def test_labels_of_a_table_are_parted_by_semicolons(tmp_path: Path) -> None:
    cells = ["dog;beach", "beach", "", "dog | cat"] * 5
    parts = ["train"] * 12 + ["test"] * 8
    data = table(tmp_path, cells, parts)
    assert isinstance(data, TargetData)
    assert data.classes == ("beach", "cat", "dog")
    assert data.test_targets[:4].tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_numbers_of_a_table_have_the_name_of_their_column(tmp_path: Path) -> None:
    data = table(tmp_path, [f"{place / 4}" for place in range(20)])
    assert isinstance(data, TargetData)
    assert data.classes == ("targets",)
    assert (len(data.train), len(data.test)) == (16, 4)


def test_whole_numbers_of_a_table_want_to_be_asked_for(tmp_path: Path) -> None:
    cells = [str(place) for place in range(20)]
    with pytest.raises(DataError, match=r"of numbers to predict say --data\.targets numbers"):
        table(tmp_path, cells)
    assert isinstance(table(tmp_path, cells, targets="numbers"), TargetData)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": LABELS * np.array([1, 0, 1])}, r"'1' holds in none of all images for training"),
        ({"y": LABELS | np.array([1, 0, 0])}, r"'0' is the same in all images"),
        ({"y": np.full(40, 2.5)}, r"'y' is the same in all images"),
        ({"y": np.where(np.arange(40) == 7, np.nan, np.arange(40) / 3)}, "has a target that is missing or infinite"),
        ({"y": LABELS[:30]}, r"x holds 40 images but y 30 labels"),
        ({"y": LABELS, "classes": np.array(["a", "b"])}, "classes must be 3 names"),
        ({"y": np.arange(40), "targets": "labels"}, r"must have the shape \(n, k\)"),
        ({"y": LABELS * 2, "targets": "labels"}, "a label that is neither 0 nor 1"),
        ({"y": np.array(["a"] * 40), "targets": "numbers"}, "must be numbers, got <U1"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        npz(tmp_path, **change)


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png has 'tall', which is no number"):
        table(tmp_path, ["1.5", "tall", "3"], targets="numbers")
