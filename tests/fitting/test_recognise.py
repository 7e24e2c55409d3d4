"""What lies at a path, and which task it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datanas.core.errors import ConfigError, DataError
from datanas.data import datasets
from datanas.fitting.fit import settings_of
from datanas.fitting.recognise import recognise


def image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file)


def kind(path: Path) -> tuple[str, str]:
    found = recognise(path)
    assert found["data"]["root"] == str(path)
    return found["data"]["name"], found["task"]["name"]


def test_class_folders_are_classified(tmp_path: Path) -> None:
    image(tmp_path / "cats" / "a.png")
    image(tmp_path / "dogs" / "b.png")
    assert kind(tmp_path) == ("folder", "classification")


def test_images_without_class_folders_are_clustered(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    assert kind(tmp_path) == ("folder", "clustering")


def test_images_with_masks_are_segmented(tmp_path: Path) -> None:
    image(tmp_path / "train" / "images" / "a.png")
    image(tmp_path / "train" / "masks" / "a.png")
    assert kind(tmp_path) == ("mask_folder", "segmentation")


def test_texts_are_modelled(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / f"wiki.{part}.txt").write_text("words\n")
    assert kind(tmp_path) == ("text", "language")
    assert kind(tmp_path / "wiki.train.txt") == ("text", "language")


def test_arrays_and_tables_of_images_are_classified(tmp_path: Path, tiny_images: Path) -> None:
    assert kind(tiny_images) == ("npz", "classification")
    table = tmp_path / "table.csv"
    table.write_text("path,label\na.png,cat\nb.png,dog\n")
    assert kind(table) == ("csv", "classification")


def test_a_table_of_several_columns_is_told_by_what_was_said_of_them(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,age,tags\na.png,cat,1.5,x;y\nb.png,dog,2,z\n")
    assert recognise(table)["task"]["name"] == "classification"
    assert recognise(table, own={"label_column": "age"})["task"]["name"] == "regression"
    assert recognise(table, own={"label_column": "tags"})["task"]["name"] == "multilabel"
    table.write_text("path,age,tags\na.png,1,x;y\nb.png,2,z\n")
    assert recognise(table, own={"label_column": "age", "targets": "numbers"})["task"]["name"] == "regression"
    found = recognise(table, "regression")  # which column is asked when the table is read
    assert found == {"data": {"name": "csv", "root": str(table), "targets": "numbers"}, "task": {"name": "regression"}}
    assert settings_of(table, None, {"data": {"label_column": "tags"}}, ())["task"]["name"] == "multilabel"
    with pytest.raises(DataError, match="which of path, age, tags is the class"):
        recognise(table)


def test_an_archive_that_is_packed_as_a_data_set_is_read_as_that(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", train_jpg=np.zeros(3, np.uint8))
    assert kind(tmp_path / "cifar10.npz") == ("cifar10", "classification")


def test_a_data_set_goes_by_its_name_and_another_task_may_be_asked_for() -> None:
    assert recognise("photos") == {"data": {"name": "photos"}, "task": {"name": "classification"}}
    assert recognise("ptb")["task"] == {"name": "language"}
    assert recognise("photos", "clustering")["task"] == {"name": "clustering"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.safetensors", "is a network, and data are needed"),
        ("scan.nii", "volumes are not searched on"),
        ("one.png", "is one image"),
        ("scan.nii.gz", "volumes are not searched on"),
        ("mine.tar.gz", "an archive; unpack it"),
        ("numbers.parquet", "tables of numbers are not searched on"),
        ("x.npy", "store images and labels together"),
        ("notes.pdf", "of an unknown kind"),
        ("broken.zip", "not a .zip archive"),
    ],
)
def test_a_file_that_is_no_data_is_refused_in_a_sentence(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match=message):
        recognise(tmp_path / name)


def test_nothing_at_all_is_told_from_a_slip_in_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        recognise(tmp_path / "none")
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        recognise("cifar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds neither images nor texts"):
        recognise(tmp_path / "empty")


@pytest.mark.parametrize("name", ["cifar10", "tinyimagenet", "miniimagenet", "omniglot", "camvid", "voc2012"])
def test_a_pack_goes_to_the_data_set_that_packs_so_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = dict.fromkeys(datasets[name].packed_arrays, np.zeros(3, np.uint8))
    np.savez(tmp_path / "mine.npz", **arrays)
    assert recognise(tmp_path / "mine.npz")["data"]["name"] == name


def test_encoded_images_of_no_known_pack_are_refused_with_the_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", train_jpg=np.zeros(3, np.uint8), train_y=np.zeros(3, np.uint8))
    with pytest.raises(DataError, match=r"train_jpg are encoded images.*datanas fit cifar10 --data.root FILE"):
        recognise(tmp_path / "mine.npz")


def test_what_is_to_be_told_of_images_is_told_by_their_targets(tmp_path: Path) -> None:
    images = np.zeros((6, 8, 8), np.uint8)
    labels, hot = np.tile([[1, 0, 1], [0, 1, 1]], (3, 1)), np.eye(3, dtype=int)[[0, 1, 2, 0, 1, 2]]
    for rows, task in (
        (labels, "multilabel"),
        (labels.astype(bool), "multilabel"),
        (hot, "classification"),
        (np.arange(6) / 4, "regression"),
        (labels * 2.5, "regression"),
        (np.arange(6) * 1.0, "classification"),
    ):
        np.savez(tmp_path / "mine.npz", x=images, y=rows)
        assert recognise(tmp_path / "mine.npz")["task"]["name"] == task
    table = tmp_path / "table.csv"
    for cells, task in (("cat;dog,cat", "multilabel"), ("1.5,2", "regression"), ("1,2", "classification")):
        first, second = cells.split(",")
        table.write_text(f"path,label\na.png,{first}\nb.png,{second}\n")
        assert recognise(table)["task"]["name"] == task


def test_a_task_that_is_asked_for_says_how_targets_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.zeros((6, 8, 8), np.uint8), y=np.arange(6))
    assert recognise(tmp_path / "mine.npz", "regression")["data"]["targets"] == "numbers"
    assert "targets" not in recognise(tmp_path / "mine.npz", "classification")["data"]
