"""Every registered data set keeps to the contract of data sets. A new one that needs no files is tested by existing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from datanas.data import datasets
from datanas.testing import DatasetContract

RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def end_to_end(files: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])


class Photographs(DatasetContract):
    def test_they_are_known_to_bear_mirroring(self, data: Any) -> None:
        assert data.bears_mirroring


class OwnImages(DatasetContract):
    def test_a_user_s_images_and_characters_are_not_known_to_bear_mirroring(self, data: Any) -> None:
        assert not data.bears_mirroring


class TestCamvid(Photographs):
    names = ("camvid",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        for part in ("train", "val", "test"):
            files = [png(noise(6, 8, 3)) for _ in range(3)]
            arrays[f"{part}_jpg"], arrays[f"{part}_off"] = end_to_end(files)
            arrays[f"{part}_mask"] = RANDOM.integers(0, 12, (3, 6, 8), dtype=np.uint8)
            arrays[f"{part}_id"] = np.array([f"{part}{number}" for number in range(3)])
        np.savez(folder / "camvid.npz", **arrays)
        return {"root": folder}


class TestCifar10(Photographs):
    names = ("cifar10",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        (folder / "cifar-10-batches-bin").mkdir()
        for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            records = noise(20, 3073)
            records[:, 0] = np.arange(20) % 10
            (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
        return {"root": folder}


class TestMiniImageNet(Photographs):
    names = ("miniimagenet",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        file = io.BytesIO()
        Image.fromarray(noise(84, 84, 3)).save(file, "JPEG")
        arrays: dict[str, Any] = {}
        for split, classes in {"train": 64, "val": 16, "test": 20}.items():
            arrays[f"{split}_jpg"] = np.frombuffer(classes * file.getvalue(), np.uint8)
            arrays[f"{split}_off"] = len(file.getvalue()) * np.arange(classes + 1)
            arrays[f"{split}_y"] = np.arange(classes)
            arrays[f"{split}_classes"] = np.array([f"{split} {number}" for number in range(classes)])
        np.savez(folder / "miniimagenet.npz", **arrays)
        return {"root": folder}


class TestTinyImageNet(Photographs):
    names = ("tinyimagenet",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        annotations = []
        (folder / "val" / "images").mkdir(parents=True)
        for number, name in enumerate(("n01", "n02")):
            (folder / "train" / name / "images").mkdir(parents=True)
            for file in (folder / "train" / name / "images" / "0.JPEG", folder / "val" / "images" / f"{number}.JPEG"):
                Image.fromarray(noise(64, 64, 3)).save(file)
            annotations.append(f"{number}.JPEG\t{name}\n")
        (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
        return {"root": folder}


class TestVOC2012(Photographs):
    names = ("voc2012",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        for part in ("train", "val"):
            sizes = [(6, 8), (8, 6), (5, 5)]
            images = [png(noise(*size, 3)) for size in sizes]
            masks = [png(RANDOM.choice(np.array([0, 8, 20, 255], np.uint8), size)) for size in sizes]
            arrays[f"{part}_jpg"], arrays[f"{part}_jpg_off"] = end_to_end(images)
            arrays[f"{part}_png"], arrays[f"{part}_png_off"] = end_to_end(masks)
            arrays[f"{part}_id"] = np.array([f"{part}{number}" for number in range(3)])
        np.savez(folder / "voc2012_subset.npz", **arrays)
        return {"root": folder}


class TestIdx(OwnImages):
    names = ("idx",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        for part, count in (("train", 6), ("t10k", 4)):
            images, labels = noise(count, 8, 6), (np.arange(count) % 2).astype(np.uint8)
            for what, array in (("images-idx3", images), ("labels-idx1", labels)):
                head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
                (folder / f"{part}-{what}-ubyte").write_bytes(head + array.tobytes())
        return {"root": folder}


class TestNpz(OwnImages):
    names = ("npz",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        np.savez(folder / "data.npz", x=noise(30, 8, 8), y=np.arange(30) % 3)
        return {"root": folder / "data.npz"}


class TestOmniglot(OwnImages):
    names = ("omniglot",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        for split, alphabets in {"train": ["Greek", "Latin"], "test": ["Tagalog", "Sanskrit"]}.items():
            arrays[f"{split}_x"] = noise(12, 28, 28)
            arrays[f"{split}_y"] = np.arange(12) // 3
            arrays[f"{split}_alphabets"] = np.array(alphabets)
            arrays[f"{split}_alphabet"] = np.array([0, 0, 0, 1])
        np.savez(folder / "omniglot_small.npz", **arrays)
        return {"root": folder, "rotations": True}


class TestMaskFolder(OwnImages):
    names = ("mask_folder",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        for part in ("train", "val", "test"):
            for kind in ("images", "masks"):
                (folder / part / kind).mkdir(parents=True)
            for number in range(3):
                pixels = noise(6, 8, 3)
                (folder / part / "images" / f"{number}.png").write_bytes(png(pixels))
                (folder / part / "masks" / f"{number}.png").write_bytes(png(pixels[:, :, 0] % 3))
        (folder / "classes.txt").write_text("sky\nsea\nland\n")
        return {"root": folder}


class TestFolders(OwnImages):
    names: ClassVar[Sequence[str]] = ("class_folders", "folder")

    def settings_in(self, folder: Path) -> dict[str, Any]:
        for name in ("ant", "bee", "cow"):
            (folder / name).mkdir(parents=True)
            for number in range(6):
                Image.fromarray(noise(8, 8, 3)).save(folder / name / f"{number}.png")
        return {"root": folder}


class TestCsv(TestFolders):
    names = ("csv",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        super().settings_in(folder)
        rows = [f"{file.relative_to(folder)},{file.parent.name}" for file in sorted(folder.glob("*/*.png"))]
        (folder / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
        return {"root": folder / "table.csv"}


class TestImageFiles(TestFolders):
    names = ("image_files",)

    def settings_in(self, folder: Path) -> dict[str, Any]:
        for part in ("train", "val"):
            super().settings_in(folder / part)
        return {"root": folder, "size": 8, "resize": 10}


class TestPhotos(Photographs):
    names = ("photos",)
    settings = {"per_class": 20, "test_per_class": 5}


class TestPhotoScenes(Photographs):
    names = ("photo_scenes",)
    settings = {"train_scenes": 12, "test_scenes": 6}


class TestText(DatasetContract):
    names = ("text",)
    words = 20
    """How large the vocabulary must be, `<eos>` among it."""

    def settings_in(self, folder: Path) -> dict[str, Any]:
        (folder / "train.txt").write_text("\n".join(f"word{number}" for number in range(self.words - 1)))
        for name in ("valid", "test"):
            (folder / f"{name}.txt").write_text("word0 word1\n")
        return {"root": folder}


class TestPtb(TestText):
    names = ("ptb",)
    words = 10_000


class TestWikitext2(TestText):
    names = ("wikitext2",)
    words = 33_278


class TestDatasets(DatasetContract):
    names = DatasetContract.names_left(datasets)
