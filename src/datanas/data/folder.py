"""Any folder of class folders of images."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from datanas.config import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images
from datanas.data.decode import decode
from datanas.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


@register_dataset("folder")
class Folder(Dataset[ImageData]):
    """`root/train/CLASS/*` with `root/test/CLASS/*` (or `val`), or `root/CLASS/*` to be split.

    A class is the name of its folder, and classes are in alphabetical order; images may lie deeper in it. Names that
    begin with a dot are passed over.
    """

    class Config(ComponentConfig):
        name: Literal["folder"] = "folder"
        root: Path = Field(description="the folder")
        resize: int | None = Field(
            default=None,
            ge=1,
            description="scale the shorter side to this and cut the centre square; unset: as they are",
        )
        channels: Literal[1, 3] = Field(default=3, description="3 turns grey images to colour, 1 turns colour to grey")
        test_share: float = Field(
            default=0.2, gt=0, lt=1, description="share of each class for testing, without a test folder"
        )
        split_seed: int = Field(default=0, description="seed of that choice")
        skip_broken: bool = Field(default=False, description="leave out images that cannot be read, with a warning")

    config: Config

    def load(self) -> ImageData:
        root = self.config.root
        where = f"folder {root}"
        if not root.is_dir():
            raise DataError(f"{where}: no such folder")
        if (root / "train").is_dir() and class_folders(root / "train"):
            classes = tuple(folder.name for folder in class_folders(root / "train"))
            train = self._read(root / "train", classes, where)
            test = self._read(test_folder(root, where), classes, where)
        else:
            classes = tuple(folder.name for folder in class_folders(root))
            train, test = self._split(*self._read_all(root, classes, where), classes, where)
        check_images(train, test, classes, where)
        return ImageData(train, test, classes)

    def _read(self, root: Path, classes: tuple[str, ...], where: str) -> ImageSet:
        return self._read_all(root, classes, where)[0]

    def _read_all(self, root: Path, classes: tuple[str, ...], where: str) -> tuple[ImageSet, list[str]]:
        """The images that can be read, and the path of each below `root`."""
        files, labels = list_images(root, classes, where)
        images, kept = decode(
            files,
            where,
            channels=self.config.channels,
            resize=self.config.resize,
            skip_broken=self.config.skip_broken,
        )
        names = [files[place].relative_to(root).as_posix() for place in kept]
        return ImageSet(images, torch.tensor(labels)[kept]), names

    def _split(
        self, both: ImageSet, names: list[str], classes: tuple[str, ...], where: str
    ) -> tuple[ImageSet, ImageSet]:
        """By the images' own names, so that one that comes or goes moves one other of its class at most."""
        is_test = torch.zeros(len(names), dtype=torch.bool)
        for label, name in enumerate(classes):
            members = (both.labels == label).nonzero().flatten().tolist()
            if len(members) < 2:
                raise DataError(
                    f"{where}: class {name!r} has {len(members)} readable images; a split needs two or more"
                )
            count = min(max(1, round(len(members) * self.config.test_share)), len(members) - 1)
            is_test[sorted(members, key=lambda place: self._lot(names[place]))[:count]] = True
        return both.select((~is_test).nonzero().flatten()), both.select(is_test.nonzero().flatten())

    def _lot(self, name: str) -> bytes:
        return sha256(f"{self.config.split_seed}/{name}".encode(errors="surrogateescape")).digest()


def list_images(root: Path, classes: tuple[str, ...], where: str) -> tuple[list[Path], list[int]]:
    """The image files below the class folders of `root`, class by class, and their labels.

    Raises:
        DataError: no class folders, one that `classes` does not know, or one without images.
    """
    folders = class_folders(root)
    if not folders:
        raise DataError(f"{where}: {root} holds no class folders; expected {root / 'CLASS' / 'image.png'}")
    files: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        if folder.name not in classes:
            raise DataError(f"{where}: {folder} is a class without training images")
        found = sorted(file for file in folder.rglob("*") if _is_image(file))
        if not found:
            raise DataError(f"{where}: {folder} holds no images ({', '.join(sorted(SUFFIXES))})")
        files += found
        labels += [classes.index(folder.name)] * len(found)
    return files, labels


def class_folders(root: Path) -> list[Path]:
    """The folders in `root` that stand for classes, in alphabetical order."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def test_folder(root: Path, where: str) -> Path:
    """The folder of the test images beside `root / "train"`.

    Raises:
        DataError: there is none.
    """
    for name in ("test", "val"):
        if (root / name).is_dir() and class_folders(root / name):
            return root / name
    raise DataError(f"{where}: there is {root / 'train'} but neither test nor val beside it holds class folders")
