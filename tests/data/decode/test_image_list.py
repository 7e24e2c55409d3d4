"""Which files of a folder are images, and what is said of the others."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from datanas.core.errors import DataError
from datanas.data.decode.image_list import ImageList, is_hidden, list_images

Make = Callable[..., Path]
HIDDEN = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "lost+found", "$RECYCLE.BIN", ".x")


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("name", [*HIDDEN, "Thumbs.db", "desktop.ini", ".DS_Store", "._image.jpg"])
def test_tools_keep_such_names_to_themselves(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("depth", ["", "deep/er/"])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_folders_are_passed_over_at_any_depth_and_counted(
    make_folder: Make, caplog: pytest.LogCaptureFixture, depth: str, name: str
) -> None:
    root = make_folder()
    (root / "ant" / depth / name).mkdir(parents=True)
    shutil.copy(root / "ant" / "0.png", root / "ant" / depth / name / "copy.png")
    files, labels = list_images(root, ("ant", "bee"), "made up")
    assert len(files) == len(labels) == 10
    assert "made up: left out 1 image: 1 in hidden folders" in caplog.text


def test_what_is_left_out_is_told_in_one_line_with_its_kind(
    make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder()
    for name in ("ant/a.heic", "ant/b.HEIC", "bee/c.JPG_", "bee/d", "stray.png", "ant/._0.png"):
        (root / name).write_bytes(png())
    (root / "ant" / "notes.txt").write_bytes(png())
    (root / "bee" / "gone.png").symlink_to("nowhere")
    list_images(root, ("ant", "bee"), "made up")
    assert len(caplog.records) == 1
    for part in (
        "left out 7 images",
        "2 of the kind .heic",
        "1 of the kind .jpg_",
        "1 without a suffix",
        "1 beside the class folders",
        "1 with hidden names",
        "1 links that lead nowhere",
    ):
        assert part in caplog.text


def test_nothing_is_told_where_nothing_is_left_out(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder()
    (root / "readme.txt").write_text("other")
    (root / "ant" / "labels.csv").write_text("other")
    list_images(root, ("ant", "bee"), "made up")
    assert not caplog.records


def test_links_are_followed_and_a_circle_is_read_once(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder()
    (root / "ant" / "round").symlink_to(root / "ant")
    (root / "ant" / "more").symlink_to(root / "bee")
    (root / "ant" / "one.png").symlink_to(root / "bee" / "0.png")
    _, labels = list_images(root, ("ant", "bee"), "made up")
    assert labels.count(0) == 5 + 5 + 1
    assert "a folder that was read already" in caplog.text


def test_parts_inside_classes_are_refused(tmp_path: Path, make_folder: Make) -> None:
    for name in ("ant", "bee"):
        make_folder(name, classes=("train", "test"))
    with pytest.raises(DataError, match=r"such as .*ant, holds folders of parts itself; put the parts first"):
        list_images(tmp_path, ("ant", "bee"), "made up")


def test_classes_that_hold_the_same_folders_may_be_parts(
    tmp_path: Path, make_folder: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("tr", "te"):
        make_folder(name, classes=("cat", "dog"))
    list_images(tmp_path, ("te", "tr"), "made up")
    assert "the classes te, tr hold the same folders (cat, dog); if they are parts" in caplog.text


def test_images_of_one_folder_alone_leave_deeper_ones_out(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    images = ImageList("made up")
    assert images.inside(make_folder()) == []
    images.tell()
    assert "10 in deeper folders" in caplog.text
