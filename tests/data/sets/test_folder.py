from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.base import ImageData
from datanas.data.sets.folder import Folder

Make = Callable[..., Path]


def load(root: Path, **settings: Any) -> ImageData:
    return Folder(Folder.Config(root=root, **settings)).load()


def pixels(file: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("test", ["test", "val"])
def test_train_and_test_folders_are_read_in_order(make_folder: Make, test: str) -> None:
    make_folder("train")
    root = make_folder(test, per_class=2)
    data = load(root)
    assert data.classes == ("ant", "bee")
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.image_shape == (3, 4, 6)
    assert torch.equal(data.train.images[6], pixels(root / "train" / "bee" / "1.png"))
    assert torch.equal(data.test.images[3], pixels(root / test / "bee" / "1.png"))


def test_class_folders_are_split_by_class_and_seed(make_folder: Make) -> None:
    root = make_folder(per_class=10)
    data = load(root, test_share=0.3)
    assert torch.bincount(data.train.labels).tolist() == [7, 7]
    together = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(together.unique(dim=0)) == 20
    assert torch.equal(data.test.images, load(root, test_share=0.3).test.images)
    assert not torch.equal(data.test.images, load(root, test_share=0.3, split_seed=1).test.images)


@pytest.mark.parametrize("gone", range(10))
def test_an_image_that_goes_moves_one_other_of_its_class_at_most(make_folder: Make, gone: int) -> None:
    root = make_folder(per_class=10)
    before = load(root, test_share=0.3)
    (root / "ant" / f"{gone}.png").unlink()
    after = load(root, test_share=0.3)

    def rows(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    assert len(rows(before.train.images) & rows(after.test.images)) <= 1
    assert len(rows(before.test.images) & rows(after.train.images)) <= 1
    assert rows(before.test.select(before.test.labels == 1).images) <= rows(after.test.images)


def test_a_class_may_be_called_train(make_folder: Make) -> None:
    assert load(make_folder(classes=("bus", "train"))).classes == ("bus", "train")


def test_hidden_names_other_files_and_deeper_folders(make_folder: Make) -> None:
    root = make_folder()
    (root / ".cache").mkdir()
    (root / "ant" / "._0.png").write_bytes(b"no image")
    (root / "ant" / "notes.txt").write_text("no image")
    (root / "bee" / "deeper").mkdir()
    (root / "bee" / "0.png").rename(root / "bee" / "deeper" / "0.PNG")
    data = load(root)
    assert (len(data.train), len(data.test)) == (8, 2)


def test_resize_scales_the_shorter_side_and_cuts_the_centre_square(make_folder: Make) -> None:
    make_folder("train/wide", classes=(".",), size=(40, 20))
    make_folder("train/high", classes=(".",), size=(20, 60))
    root = make_folder("test", classes=("wide", "high"))
    data = load(root, resize=10)
    wide = Image.open(root / "train" / "wide" / "0.png").resize((20, 10), Image.Resampling.BILINEAR)
    high = Image.open(root / "train" / "high" / "0.png").resize((10, 30), Image.Resampling.BILINEAR)
    for index, expected in ((5, wide.crop((5, 0, 15, 10))), (0, high.crop((0, 10, 10, 20)))):
        pixels = np.asarray(expected).transpose(2, 0, 1).astype(int)
        assert np.abs(data.train.images[index].numpy() - pixels).max() <= 1


def test_one_channel_turns_colour_to_grey(make_folder: Make) -> None:
    make_folder("train")
    root = make_folder("test")
    data = load(root, channels=1)
    expected = np.asarray(Image.open(root / "train" / "ant" / "0.png").convert("L"))
    assert data.image_shape == (1, 4, 6)
    assert np.array_equal(data.train.images[0, 0].numpy(), expected)


def test_grey_among_colour_is_converted_and_counted(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(classes=("ant",))
    make_folder(classes=("bee",), mode="L")
    data = load(root)
    assert [record.message for record in caplog.records] == [
        f"folder {root}: turned 5 grey of 10 images to colour, the first is {root / 'bee' / '0.png'}"
    ]
    grey = data.train.images[data.train.labels == 1]
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_colour_alone_warns_of_nothing(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    load(make_folder())
    assert not caplog.records


def test_grey_of_16_bits_keeps_its_upper_byte(make_folder: Make) -> None:
    root = make_folder(per_class=2)
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2500
    for file in root.rglob("*.png"):
        Image.fromarray(deep).save(file)
    assert np.array_equal(load(root, channels=1).train.images[0, 0].numpy(), deep >> 8)


def test_the_camera_s_rotation_is_obeyed(make_folder: Make) -> None:
    root = make_folder(per_class=2, suffix=".jpg")
    for file in root.rglob("*.jpg"):
        image = Image.open(file)
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(file, exif=exif)
    assert load(root).image_shape == (3, 6, 4)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif", ".webp", ".tif"])
def test_the_common_formats_are_read(make_folder: Make, suffix: str) -> None:
    assert load(make_folder(per_class=2, suffix=suffix)).image_shape == (3, 4, 6)


def test_sizes_that_differ_are_named(make_folder: Make) -> None:
    root = make_folder()
    Image.new("RGB", (5, 7)).save(root / "bee" / "2.png")
    first, other = root / "ant" / "0.png", root / "bee" / "2.png"
    with pytest.raises(DataError) as caught:
        load(root)
    assert str(caught.value) == (
        f"folder {root}: sizes differ: {first} is 6x4, {other} is 5x7; choose one with --data.resize N"
    )
    assert load(root, resize=4).image_shape == (3, 4, 4)


def test_sizes_that_differ_between_train_and_test_are_refused(make_folder: Make) -> None:
    make_folder("train")
    with pytest.raises(DataError, match="train and test images differ"):
        load(make_folder("test", size=(4, 6)))


@pytest.mark.parametrize("place", ["ant/0.png", "bee/3.png"])
@pytest.mark.parametrize("damage", ["text", "empty", "cut"])
def test_a_broken_image_is_named_or_skipped(
    make_folder: Make, caplog: pytest.LogCaptureFixture, place: str, damage: str
) -> None:
    root = make_folder()
    file = root / place
    file.write_bytes({"text": b"no image", "empty": b"", "cut": file.read_bytes()[:60]}[damage])
    with pytest.raises(DataError, match=f"{file} is broken .*--data.skip_broken true"):
        load(root)
    with caplog.at_level(logging.WARNING):
        data = load(root, skip_broken=True)
    assert [record.message for record in caplog.records] == [f"folder {root}: skipped 1 broken of 10 images: {file}"]
    assert len(data.train) + len(data.test) == 9
    labels = torch.cat([data.train.labels, data.test.labels])
    assert torch.bincount(labels).tolist() == ([4, 5] if place.startswith("ant") else [5, 4])


def test_nothing_readable_is_an_error_even_when_skipping(make_folder: Make) -> None:
    root = make_folder(per_class=1)
    for file in root.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 2 image files can be read"):
        load(root, skip_broken=True)


def test_values_below_black_are_refused(make_folder: Make) -> None:
    root = make_folder()
    Image.fromarray(np.full((4, 6), -0.5, np.float32)).save(root / "ant" / "float.tif")
    with pytest.raises(DataError, match=r"float\.tif holds values below 0"):
        load(root)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        load(tmp_path / "absent")


def test_a_folder_without_class_folders_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="holds no class folders"):
        load(tmp_path)


def test_an_empty_class_folder_is_named(make_folder: Make) -> None:
    root = make_folder()
    (root / "cow").mkdir()
    with pytest.raises(DataError, match=f"{root / 'cow'} holds no images"):
        load(root)


def test_one_class_folder_is_for_the_task_to_judge(make_folder: Make) -> None:
    data = load(make_folder(classes=("ant",)))
    assert data.classes == ("ant",)
    assert (len(data.train), len(data.test)) == (4, 1)


def test_a_single_image_cannot_be_split(make_folder: Make) -> None:
    root = make_folder()
    make_folder(classes=("cow",), per_class=1)
    with pytest.raises(DataError, match="class 'cow' has 1 readable images; a split needs two or more"):
        load(root)


def test_train_without_test_is_named(make_folder: Make) -> None:
    with pytest.raises(DataError, match="neither test nor val beside it holds class folders"):
        load(make_folder("train"))


def test_a_test_class_without_training_images_is_named(make_folder: Make) -> None:
    make_folder("train")
    root = make_folder("test", classes=("ant", "cow"))
    with pytest.raises(DataError, match=f"{root / 'test' / 'cow'} is a class without training images"):
        load(root)


def test_images_that_do_not_fit_are_refused(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.data.decode.memory.available_memory", lambda: 700)
    with pytest.raises(MemoryError, match=r"10 images need .* use a smaller --data.resize N"):
        load(make_folder())


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("training_set", "test_set"),
        ("training", "validation"),
        ("TRAIN", "VAL"),
        ("seg_train", "seg_test"),
    ],
)
def test_parts_in_any_case_and_usual_spelling_are_no_classes(make_folder: Make, train: str, test: str) -> None:
    make_folder(train)
    data = load(make_folder(test, per_class=2))
    assert data.classes == ("ant", "bee")
    assert (len(data.train), len(data.test)) == (10, 4)


def test_of_three_parts_it_is_said_which_is_not_used(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("Train", "Val"):
        make_folder(part)
    data = load(make_folder("Test", per_class=2))
    assert (len(data.train), len(data.test)) == (10, 4)
    assert "10 of the part Val, as Test is tested on" in caplog.text


def test_images_to_test_on_without_classes_are_left_out_where_others_have_some(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "val"):
        make_folder(part, per_class=3)
    root = make_folder("", classes=("test",), per_class=4)
    data = load(root)
    assert (len(data.train), len(data.test)) == (6, 6)
    assert "4 of the part test, which holds no class folders" in caplog.text


def test_a_folder_around_the_class_folders_is_refused_with_the_way_out(make_folder: Make) -> None:
    root = make_folder("inner")
    with pytest.raises(DataError, match=f"set --data.root {root / 'inner'}"):
        load(root)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_values_of_few_bits_in_files_of_16_keep_their_content(
    tmp_path: Path, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (10, 16, 16), dtype=np.uint16)
    values[0, 0, 0] = 2**bits - 1
    for number, pixels in enumerate(values):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    data = load(tmp_path, channels=1)
    found = torch.cat([data.train.images, data.test.images]).numpy().reshape(10, -1)
    assert sorted(map(bytes, found)) == sorted(map(bytes, (values >> (bits - 8)).astype(np.uint8).reshape(10, -1)))
    assert f"({bits} bits) is taken" in caplog.text


def test_white_may_be_set(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(np.array([[0, 500, 1000, number]], np.uint16)).save(tmp_path / name / f"{number}.png")
    assert load(tmp_path, channels=1, white_level=1000).train.images.max() == 255


def test_images_without_class_folders_are_unlabelled(tmp_path: Path, make_folder: Make) -> None:
    make_folder("all", classes=(".",), per_class=10)
    data = load(tmp_path / "all")
    assert data.classes == ("unlabelled",)
    assert (len(data.train), len(data.test)) == (8, 2)
    for name in ("parts/train", "parts/test"):
        make_folder(name, classes=(".",))
    data = load(tmp_path / "parts")
    assert (data.classes, len(data.train), len(data.test)) == (("unlabelled",), 5, 5)


def test_one_image_in_both_parts_is_told_by_its_name(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    make_folder("train")
    load(make_folder("test", per_class=1))
    assert "2 of 2 images of the part test are images for training too, such as ant/0.png" in caplog.text


def test_what_is_lost_of_images_is_counted(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder()
    for number in range(2):
        Image.new("RGBA", (6, 4), (1, 2, 3, 100)).save(root / "ant" / f"{number}.png")
    film = [Image.new("RGB", (6, 4), (number, 0, 9)) for number in range(3)]
    film[0].save(root / "bee" / "film.gif", save_all=True, append_images=film[1:])
    load(root)
    assert "dropped the transparency of 2 of 11 images" in caplog.text
    assert "took the first of several frames or pages of 1 of 11 images" in caplog.text


def test_a_large_image_is_refused_with_the_setting_that_allows_it(make_folder: Make) -> None:
    root = make_folder()
    with pytest.raises(DataError, match=r"0\.png has 6x4 pixels, more than the 23 .*--data\.max_pixels N"):
        load(root, max_pixels=23)
    assert len(load(root, max_pixels=24).train) == 8
