"""Image files that are decoded when they are needed: what is read, ahead of time or not, and what is refused."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import ConfigError, DataError
from datanas.core.seeding import generator
from datanas.core.settings import validate
from datanas.data.batches import Stream, sequential, stratified
from datanas.data.sets.folder import Folder
from datanas.data.sets.image_files import ImageFiles
from datanas.data.types.file_set import ImageFileData

SETTINGS = {"size": 8, "resize": 8, "workers": 2}


@pytest.fixture
def root(make_folder: Callable[..., Path]) -> Path:
    make_folder("train", per_class=6, size=(12, 10))
    return make_folder("val", per_class=3, size=(9, 16))


def load(root: Path, **settings: Any) -> ImageFileData:
    return ImageFiles(validate(ImageFiles.Config, {"root": root, **SETTINGS, **settings}, "data")).load()


def everything(data: ImageFileData) -> torch.Tensor:
    return torch.arange(len(data.train))


def test_what_is_measured_is_what_a_folder_in_memory_holds(root: Path) -> None:
    data = load(root)
    held = Folder(Folder.Config(root=root, resize=8)).load()
    for own, other in ((data.train, held.train), (data.test, held.test)):
        images, labels = own.begin(torch.arange(len(own)))()
        assert torch.equal(images, other.images)
        assert torch.equal(labels, other.labels)
    assert (data.classes, data.image_shape) == (held.classes, held.image_shape)


def test_the_centre_is_cut_out_of_what_the_shorter_side_is_scaled_to(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            pixels = np.zeros((16, 16, 3), np.uint8)
            pixels[4:12, 4:12] = 255
            Image.fromarray(pixels).save(tmp_path / part / name / "one.png")
    inner, _ = load(tmp_path, size=8, resize=16).test.begin(torch.arange(2))()
    whole, _ = load(tmp_path, size=16, resize=16).test.begin(torch.arange(2))()
    assert torch.equal(inner, torch.full_like(inner, 255))
    assert whole.float().mean() == 255 / 4


def test_training_crops_are_drawn_from_their_key_alone(root: Path) -> None:
    data = load(root)
    state = torch.get_rng_state()
    first, again, other = (
        data.train.begin(everything(data), crop=generator(0, "crop", step))()[0] for step in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, data.train.begin(everything(data))()[0])


def test_a_share_becomes_what_it_would_in_the_whole(root: Path) -> None:
    data = load(root)
    whole, labels = data.train.begin(everything(data), crop=generator(0, "crop"))()
    share, own = data.train.begin(everything(data), slice(3, 7), generator(0, "crop"))()
    assert torch.equal(share, whole[3:7])
    assert torch.equal(own, labels[3:7])


@pytest.mark.parametrize("look_ahead", [0, 3])
def test_batches_are_the_same_however_far_ahead_they_are_read(root: Path, look_ahead: int) -> None:
    data, plain = load(root, look_ahead=look_ahead), load(root, look_ahead=1, workers=1)
    stream = Stream(data.train, everything(data), 5, seed=0, name="train")
    for step in (0, 1, 2, 5, 3, 3):  # on, over the end of an epoch, back, and the same again
        fresh = Stream(plain.train, everything(plain), 5, seed=0, name="train").batch(step)
        for own, other in zip(stream.batch(step), fresh, strict=True):
            assert torch.equal(own, other)


def test_no_more_is_read_ahead_than_was_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datanas.data.types import file_set

    read: list[Path] = []

    def recorded(file: Path, *settings: Any) -> tuple[np.ndarray, bool]:
        read.append(file)
        return np.zeros((3, 8, 8), np.uint8), False

    monkeypatch.setattr(file_set, "read_image", recorded)
    data = load(root, look_ahead=2, workers=1)
    stream = Stream(data.train, everything(data), 2, seed=0, name="train")
    for step in range(3):
        stream.batch(step)
    stream._begun[4]()  # done, so that what stands before it is too
    assert len(read) == 2 * (3 + 2)


def test_an_evaluation_reads_every_file_once(root: Path) -> None:
    data = load(root)
    found = torch.cat([images for images, _ in sequential(data.train, None, 5)])
    assert torch.equal(found, data.train.begin(everything(data))()[0])


def test_its_threads_end_with_it(root: Path) -> None:
    before = threading.active_count()
    data = load(root)
    stream = Stream(data.train, everything(data), 4, seed=0, name="train")
    stream.batch(0)
    started = [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert started
    del stream, data
    gc.collect()
    for thread in started:
        thread.join(timeout=10)
    assert threading.active_count() == before


def test_a_broken_file_is_named_when_its_batch_is_taken(root: Path) -> None:
    (root / "train" / "bee" / "0.png").write_bytes(b"no image")
    data = load(root)
    take = data.train.begin(everything(data))
    with pytest.raises(DataError, match=r"bee/0\.png is broken \(not an image\); .*--data\.skip_broken true"):
        take()


def test_broken_files_are_left_out_with_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "train" / "bee" / "0.png").write_bytes(b"no image")
    (root / "train" / "bee" / "1.png").write_bytes(b"")
    data = load(root, skip_broken=True)
    assert len(data.train) == 10
    assert torch.bincount(data.train.labels).tolist() == [6, 4]
    assert "left out 2 broken of 12 images, the first is" in caplog.text


def test_a_class_of_broken_files_is_refused(root: Path) -> None:
    for file in (root / "val" / "bee").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="val/bee holds no image that can be read"):
        load(root, skip_broken=True)


def test_what_tells_the_files_apart_is_names_sizes_and_labels(root: Path) -> None:
    def digest() -> bytes:
        return b"".join(load(root).train.contents())

    before = digest()
    assert digest() == before
    file = root / "train" / "ant" / "0.png"
    file.write_bytes(file.read_bytes() + b" ")
    resized = digest()
    assert resized != before
    file.rename(file.with_name("renamed.png"))
    assert digest() not in (before, resized)


def test_parts_are_split_by_class(root: Path) -> None:
    data = load(root)
    held, kept = stratified(data.train.labels, Fraction(1, 3), 0, "validation")
    assert torch.bincount(data.train.labels[held]).tolist() == [2, 2]
    assert torch.bincount(data.train.labels[kept]).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": 7}, r"resize must be at least size \(8\), got 7"),
        ({"mean": [0.5]}, "mean needs a number for each of 3 channels, got 1"),
        ({"std": [0.5, 0.0, 0.5]}, "std must be above 0"),
        ({"smallest_crop": 0}, "must be greater than 0"),
        ({"workers": 0}, "must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(root, **settings)


def test_an_empty_file_is_refused_at_once(root: Path) -> None:
    (root / "val" / "ant" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"ant/0\.png is empty; remove it, or set --data\.skip_broken true"):
        load(root)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], r"no folder .*train; expected .*train/CLASS/image\.jpg"),
        (["train/ant"], "neither test nor val beside it"),
        (["train/ant", "val/bee"], "holds no images"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, folders: list[str], message: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    if folders and len(folders) == 1:
        Image.new("RGB", (8, 8)).save(tmp_path / folders[0] / "one.png")
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "none")


def test_grey_images_have_statistics_of_their_own(root: Path) -> None:
    data = load(root, channels=1)
    assert data.image_shape == (1, 8, 8)
    assert data.mean.shape == data.std.shape == (1,)
    assert data.train.begin(everything(data))()[0].shape == (12, 1, 8, 8)


def test_parts_may_be_called_otherwise(make_folder: Callable[..., Path]) -> None:
    make_folder("Training", per_class=6)
    data = load(make_folder("test_set"))
    assert (len(data.train), len(data.test), data.classes) == (12, 10, ("ant", "bee"))


def test_files_of_equal_bytes_in_both_parts_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(root / "train" / "ant" / "2.png", root / "val" / "bee" / "9.png")
    load(root)
    assert "1 of 7 files to test on are files for training too, such as bee/9.png, which is ant/2.png" in caplog.text


def test_values_of_12_bits_in_files_of_16_have_one_white(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in root.rglob("*.png"):
        Image.fromarray(np.full((12, 12), 4095, np.uint16)).save(file)
    images, _ = load(root).train.begin(torch.arange(2))()
    assert images.unique().tolist() == [255]
    assert "0..4,095 (12 bits)" in caplog.text
