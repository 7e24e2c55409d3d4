"""Tables of image paths and classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datanas.core.errors import DataError
from datanas.data.base import ImageData
from datanas.data.sets.csv import Csv
from datanas.data.sets.folder import Folder

Make = Callable[..., Path]


def load(table: Path, **settings: Any) -> ImageData:
    found = Csv(Csv.Config(root=table, **settings)).load()
    assert isinstance(found, ImageData)
    return found


def write(root: Path, head: str, row: str = "{path},{name}", name: str = "table.csv") -> Path:
    """A row for each image below the class folders of `root`."""
    files = sorted(root.glob("*/*.png"))
    rows = [
        row.format(path=file.relative_to(root), name=file.parent.name, part=("test", "train")[place % 3 > 0])
        for place, file in enumerate(files)
    ]
    table = root / name
    table.write_text("\n".join([head, *rows] if head else rows) + "\n")
    return table


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("path,label", "{path},{name}"),
        ("class;image", "{name};{path}"),
        ("", "{path},{name}"),
        ("a\tb", "{name}\t{path}"),
    ],
)
def test_the_columns_are_told_by_their_names_or_by_what_they_hold(make_folder: Make, head: str, row: str) -> None:
    root = make_folder(per_class=5)
    found, same = load(write(root, head, row)), Folder(Folder.Config(root=root)).load()
    assert found.classes == same.classes == ("ant", "bee")
    assert torch.equal(found.train.images, same.train.images)
    assert torch.equal(found.test.labels, same.test.labels)


def test_a_column_of_parts_says_what_is_tested_on(make_folder: Make) -> None:
    root = make_folder(per_class=6)
    found = load(write(root, "path,label,split", "{path},{name},{part}"))
    assert (len(found.train), len(found.test)) == (8, 4)


def test_a_part_for_validation_is_left_out_beside_one_for_testing(make_folder: Make) -> None:
    root = make_folder(per_class=6)
    table = write(root, "path,label,split", "{path},{name},{part}")
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *(f"{row.rpartition(',')[0]},val" for row in rows[1:3]), *rows[3:]]))
    assert len(load(table).train) + len(load(table).test) == 10


def test_how_images_became_pixels_travels_with_them(make_folder: Make) -> None:
    root = make_folder(per_class=4)
    found, same = load(write(root, "path,label"), resize=4), Folder(Folder.Config(root=root, resize=4)).load()
    assert (found.pixels, found.is_scaled) == (same.pixels, same.is_scaled)
    assert found.is_scaled
    assert sorted(Csv(Csv.Config(root=root / "table.csv")).image_sizes())[0] == (6, 4)


def test_numbered_classes_are_in_the_order_of_their_numbers(make_folder: Make) -> None:
    root = make_folder(per_class=4)
    table = write(root, "path,label")
    table.write_text(table.read_text().replace(",ant", ",10").replace(",bee", ",9"))
    assert load(table).classes == ("9", "10")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n3,4\n", "no column of image files among x, y"),
        ("path,label\n", "expected a row an image"),
        ("path,label\na.png,u\nb.png\n", "row 3 has 1 cells, the first has 2"),
        ("path,label\na.png,u\nb.png,\n", "b.png has no class"),
        ("path,one,two\na.png,u,v\nb.png,u,w\n", "which of path, one, two is the class"),
        ("path,label\na.png,a cat\nb.png,a dog\nc.png,a cow\nd.png,a bee\n", "have 4 different labels"),
        ("path,label\nnone.png,u\nnone2.png,u\nnone3.png,v\nnone4.png,v\n", "none.png"),
    ],
)
def test_a_table_that_will_not_do_is_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        load(table)


def test_a_column_that_is_not_there_is_named(make_folder: Make) -> None:
    table = write(make_folder(per_class=4), "path,label")
    with pytest.raises(DataError, match=r"no column 'kind' \(data.label_column\); the table has path, label"):
        load(table, label_column="kind")
