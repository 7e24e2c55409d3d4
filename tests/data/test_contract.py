"""What every registered data set keeps to, and what those of images and of text keep to besides. A new one is tested by
existing: with its default settings, or with those that SETTINGS makes for it.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import ComponentConfig, validate
from datanas.data import datasets
from datanas.data.base import Dataset, ImageData, check_images
from datanas.data.types.class_splits import ClassSplitData, check_class_splits
from datanas.data.types.corpus import EOS, TextData
from datanas.data.types.file_set import ImageFileData
from datanas.data.types.masks import SegmentationData, check_masks

RANDOM = np.random.default_rng(0)


def cifar10_settings(root: Path) -> dict[str, Any]:
    (root / "cifar-10-batches-bin").mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        records = RANDOM.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        (root / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
    return {"root": root}


def folder_settings(root: Path) -> dict[str, Any]:
    from PIL import Image

    for name in ("ant", "bee", "cow"):
        (root / name).mkdir()
        for number in range(6):
            pixels = RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return {"root": root}


def miniimagenet_settings(root: Path) -> dict[str, Any]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (84, 84, 3), dtype=np.uint8)).save(file, "JPEG")
    arrays: dict[str, Any] = {}
    for split, classes in {"train": 64, "val": 16, "test": 20}.items():
        arrays[f"{split}_jpg"] = np.frombuffer(classes * file.getvalue(), np.uint8)
        arrays[f"{split}_off"] = len(file.getvalue()) * np.arange(classes + 1)
        arrays[f"{split}_y"] = np.arange(classes)
        arrays[f"{split}_classes"] = np.array([f"{split} {number}" for number in range(classes)])
    np.savez(root / "miniimagenet.npz", **arrays)
    return {"root": root}


def omniglot_settings(root: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for split, alphabets in {"train": ["Greek", "Latin"], "test": ["Tagalog", "Sanskrit"]}.items():
        arrays[f"{split}_x"] = RANDOM.integers(0, 256, (12, 28, 28), dtype=np.uint8)
        arrays[f"{split}_y"] = np.arange(12) // 3
        arrays[f"{split}_alphabets"] = np.array(alphabets)
        arrays[f"{split}_alphabet"] = np.array([0, 0, 0, 1])
    np.savez(root / "omniglot_small.npz", **arrays)
    return {"root": root, "rotations": True}


def png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def end_to_end(files: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])


def camvid_settings(root: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        files = [png(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(3)]
        arrays[f"{part}_jpg"], arrays[f"{part}_off"] = end_to_end(files)
        arrays[f"{part}_mask"] = RANDOM.integers(0, 12, (3, 6, 8), dtype=np.uint8)
        arrays[f"{part}_id"] = np.array([f"{part}{number}" for number in range(3)])
    np.savez(root / "camvid.npz", **arrays)
    return {"root": root}


def voc2012_settings(root: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for part in ("train", "val"):
        sizes = [(6, 8), (8, 6), (5, 5)]
        images = [png(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
        masks = [png(RANDOM.choice(np.array([0, 8, 20, 255], np.uint8), size)) for size in sizes]
        arrays[f"{part}_jpg"], arrays[f"{part}_jpg_off"] = end_to_end(images)
        arrays[f"{part}_png"], arrays[f"{part}_png_off"] = end_to_end(masks)
        arrays[f"{part}_id"] = np.array([f"{part}{number}" for number in range(3)])
    np.savez(root / "voc2012_subset.npz", **arrays)
    return {"root": root}


def mask_folder_settings(root: Path) -> dict[str, Any]:
    for part in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for number in range(3):
            pixels = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            (root / part / "images" / f"{number}.png").write_bytes(png(pixels))
            (root / part / "masks" / f"{number}.png").write_bytes(png(pixels[:, :, 0] % 3))
    (root / "classes.txt").write_text("sky\nsea\nland\n")
    return {"root": root}


def image_files_settings(root: Path) -> dict[str, Any]:
    for part in ("train", "val"):
        (root / part).mkdir()
        folder_settings(root / part)
    return {"root": root, "size": 8, "resize": 10}


def tinyimagenet_settings(root: Path) -> dict[str, Any]:
    from PIL import Image

    annotations = []
    (root / "val" / "images").mkdir(parents=True)
    for number, name in enumerate(("n01", "n02")):
        (root / "train" / name / "images").mkdir(parents=True)
        for file in (root / "train" / name / "images" / "0.JPEG", root / "val" / "images" / f"{number}.JPEG"):
            Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
        annotations.append(f"{number}.JPEG\t{name}\n")
    (root / "val" / "val_annotations.txt").write_text("".join(annotations))
    return {"root": root}


def npz_settings(root: Path) -> dict[str, Any]:
    np.savez(root / "data.npz", x=RANDOM.integers(0, 256, (30, 8, 8), dtype=np.uint8), y=np.arange(30) % 3)
    return {"root": root / "data.npz"}


def text_settings(words: int) -> Callable[[Path], dict[str, Any]]:
    """A text whose vocabulary has so many words, `<eos>` among them."""

    def make(root: Path) -> dict[str, Any]:
        (root / "train.txt").write_text("\n".join(f"word{number}" for number in range(words - 1)))
        for name in ("valid", "test"):
            (root / f"{name}.txt").write_text("word0 word1\n")
        return {"root": root}

    return make


SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "camvid": camvid_settings,
    "cifar10": cifar10_settings,
    "class_folders": folder_settings,
    "folder": folder_settings,
    "image_files": image_files_settings,
    "mask_folder": mask_folder_settings,
    "miniimagenet": miniimagenet_settings,
    "npz": npz_settings,
    "omniglot": omniglot_settings,
    "photo_scenes": lambda root: {"train_scenes": 12, "test_scenes": 6},
    "photos": lambda root: {"per_class": 20, "test_per_class": 5},
    "ptb": text_settings(10_000),
    "text": text_settings(20),
    "tinyimagenet": tinyimagenet_settings,
    "voc2012": voc2012_settings,
    "wikitext2": text_settings(33_278),
}


@pytest.fixture(scope="module", params=list(datasets))
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset[Any]:
    name = request.param
    entry = datasets[name]
    settings = SETTINGS[name](tmp_path_factory.mktemp(name)) if name in SETTINGS else {}
    try:
        config = validate(entry.Config, settings, "data")
    except ConfigError as error:
        pytest.skip(f"{name} needs settings that the test does not know: {error}")
    return entry(config)


@pytest.fixture(scope="module")
def data(dataset: Dataset[Any]) -> Any:
    return dataset.load()


def test_its_settings_are_a_component_of_its_name(dataset: Dataset[Any]) -> None:
    assert isinstance(dataset.config, ComponentConfig)
    assert type(dataset) is datasets[dataset.config.name]


def test_unknown_settings_are_refused(dataset: Dataset[Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.no_such_setting: unknown key"):
        validate(type(dataset).Config, dataset.config.model_dump() | {"no_such_setting": 1}, "data")


def test_its_settings_survive_being_written(dataset: Dataset[Any]) -> None:
    assert validate(type(dataset).Config, dataset.config.model_dump(mode="json"), "data") == dataset.config


def plain(value: Any) -> Any:
    """Nested data as values that `==` compares."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def test_loading_again_gives_the_same(dataset: Dataset[Any], data: Any) -> None:
    if not is_dataclass(data):
        pytest.skip(f"{type(data).__name__} is no dataclass, so its parts are not known")
    state = torch.get_rng_state()
    again = type(dataset)(dataset.config).load()
    assert torch.equal(torch.get_rng_state(), state)
    assert type(again) is type(data)
    assert plain(again) == plain(data)


def check_image_data(data: ImageData) -> None:
    """Sound images with distinct classes, and the statistics of those for training."""
    check_images(data.train, data.test, data.classes, "contract")
    channels, height, width = data.image_shape
    assert data.train.images.shape == (len(data.train), channels, height, width)
    assert len(set(data.classes)) == len(data.classes)
    assert data.mean.shape == data.std.shape == (channels,)
    assert data.mean.dtype == data.std.dtype == torch.float32
    assert (data.mean >= 0).all()
    assert (data.mean <= 1).all()
    assert (data.std > 0).all()


def check_class_split_data(data: ClassSplitData) -> None:
    """Sound images, classes that are in one part only, and the statistics of those for training."""
    check_class_splits(data, "contract")
    names = [name for part in data.parts().values() for name in part.classes]
    assert len(set(names)) == len(names)
    channels, _, _ = data.image_shape
    assert data.mean.shape == data.std.shape == (channels,)
    assert ((data.mean >= 0) & (data.mean <= 1) & (data.std > 0)).all()


def check_segmentation_data(data: SegmentationData) -> None:
    """Sound images and masks, distinct classes, and the statistics of those for training."""
    check_masks(data, "contract")
    assert len(set(data.classes)) == len(data.classes)
    assert data.mean.shape == data.std.shape == (3,)
    assert ((data.mean >= 0) & (data.mean <= 1) & (data.std > 0)).all()
    assert all(len(set(part.names)) == len(part) for part in data.parts().values())


def check_image_file_data(data: ImageFileData) -> None:
    """Files that can be read, of distinct classes that all have some for training, and sound statistics."""
    channels, height, width = data.image_shape
    for part in (data.train, data.test):
        images, labels = part.begin(torch.arange(len(part)))()
        assert images.shape == (len(part), channels, height, width)
        assert torch.equal(labels, part.labels)
        assert 0 <= labels.min() <= labels.max() < len(data.classes)
    assert data.train.labels.unique().tolist() == list(range(len(data.classes)))
    assert len(set(data.classes)) == len(data.classes)
    assert data.mean.shape == data.std.shape == (channels,)
    assert (data.std > 0).all()


def check_text_data(data: TextData) -> None:
    """Ids of the vocabulary, sentences that end, words that stand once and hold no blank."""
    for ids in (data.train, data.valid, data.test):
        assert ids.dtype == torch.int64
        assert ids.ndim == 1
        assert 0 <= ids.min() <= ids.max() < len(data.vocabulary)
        assert (ids != data.eos).any()
        assert ids[-1] == data.eos
    assert len(set(data.vocabulary)) == len(data.vocabulary)
    assert all(word.split() == [word] for word in data.vocabulary)
    assert data.vocabulary[data.eos] == EOS
    assert 0 <= data.digest < 2**63
    assert {"valid", "test"} <= set(data.unknown) <= {"train", "valid", "test"}
    for split, count in data.unknown.items():
        assert 0 <= count < len(getattr(data, split))


CHECKS: dict[type, Callable[[Any], None]] = {
    ImageFileData: check_image_file_data,
    ClassSplitData: check_class_split_data,
    ImageData: check_image_data,
    SegmentationData: check_segmentation_data,
    TextData: check_text_data,
}


def test_what_is_loaded_is_sound(data: Any) -> None:
    if type(data) not in CHECKS:
        pytest.skip(f"what {type(data).__name__} owes is not known")
    CHECKS[type(data)](data)


def copied(dataset: Dataset[Any], folder: Path) -> Dataset[Any]:
    """The same data set on a copy of its folder; the test is skipped where it has none."""
    root = getattr(dataset.config, "root", None)
    if root is None or not root.is_dir():
        pytest.skip(f"{dataset.config.name} reads no folder")
    return type(dataset)(dataset.config.model_copy(update={"root": Path(shutil.copytree(root, folder / "copy"))}))


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "._"])
def test_what_tools_leave_in_folders_changes_nothing(dataset: Dataset[Any], tmp_path: Path, hidden: str) -> None:
    other = copied(dataset, tmp_path)
    before = plain(other.load())
    folders = [tmp_path / "copy", *(path for path in (tmp_path / "copy").rglob("*") if path.is_dir())]
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.is_file())[:2]
        if hidden == "._":
            for file in files:
                file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
            continue
        (folder / hidden).mkdir()
        for file in files:
            shutil.copy(file, folder / hidden / f"{file.stem}-checkpoint{file.suffix}")
    assert plain(other.load()) == before


def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(dataset: Dataset[Any], tmp_path: Path) -> None:
    other = copied(dataset, tmp_path)
    before = plain(other.load())
    texts = [*(tmp_path / "copy").rglob("*.txt"), *(tmp_path / "copy").rglob("*.csv")]
    if not texts:
        pytest.skip(f"{dataset.config.name} reads no text here")
    for file in texts:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert plain(other.load()) == before


def rooted() -> list[str]:
    """The data sets that read from a path."""
    return [name for name in datasets if "root" in datasets[name].Config.model_fields]


@pytest.mark.parametrize("suffix", ["", ".npz"])
@pytest.mark.parametrize("name", rooted())
def test_a_path_that_leads_to_nothing_of_use_is_bad_data_and_named(name: str, suffix: str, tmp_path: Path) -> None:
    entry = datasets[name]
    (tmp_path / f"file{suffix}").write_bytes(b"no data")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"round{suffix}").symlink_to(tmp_path / f"round{suffix}")
    (tmp_path / f"gone{suffix}").symlink_to(tmp_path / "nowhere")
    for path, reason in {
        f"{'x' * 300}{suffix}": "File name too long",
        f"round{suffix}": "Too many levels of symbolic links",
        f"gone{suffix}": "",
        f"missing{suffix}": "",
        f"file{suffix}": "",
        f"folder{suffix}": "",
        f"file{suffix}/below": "",
    }.items():
        try:
            config = validate(entry.Config, {"root": tmp_path / path}, "data")
        except ConfigError as error:
            pytest.skip(f"{name} needs settings that the test does not know: {error}")
        with pytest.raises(DataError, match=reason or None) as caught:
            entry(config).load()
        assert path[:20] in str(caught.value)


def test_whether_mirrored_images_are_as_good_is_said(data: Any) -> None:
    if isinstance(data, TextData):
        pytest.skip("a text is not mirrored")
    assert isinstance(data.bears_mirroring, bool)


@pytest.mark.parametrize("name", ["npz", "folder", "class_folders", "image_files", "mask_folder", "omniglot"])
def test_a_user_s_own_images_and_characters_are_not_known_to_bear_mirroring(name: str, tmp_path: Path) -> None:
    assert not datasets[name](validate(datasets[name].Config, SETTINGS[name](tmp_path), "data")).load().bears_mirroring


@pytest.mark.parametrize(
    "name", ["camvid", "cifar10", "miniimagenet", "photo_scenes", "photos", "tinyimagenet", "voc2012"]
)
def test_photographs_are_known_to_bear_mirroring(name: str, tmp_path: Path) -> None:
    assert datasets[name](validate(datasets[name].Config, SETTINGS[name](tmp_path), "data")).load().bears_mirroring
