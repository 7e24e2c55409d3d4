"""Any folder of class folders of images, parted by class: whole classes are for testing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from datanas.config import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageSet
from datanas.data.class_splits import ClassSet, ClassSplitData, check_class_splits, split_classes
from datanas.data.decode import decode
from datanas.data.folder import class_folders, list_images
from datanas.errors import DataError


@register_dataset("class_folders")
class ClassFolders(Dataset[ClassSplitData]):
    """`root/train/CLASS/*`, `root/test/CLASS/*` and, if wanted, `root/val/CLASS/*`, or `root/CLASS/*` to be parted.

    A class is the name of its folder, and is in one part only; images may lie deeper in it. Names that begin with a dot
    are passed over.
    """

    class Config(ComponentConfig):
        name: Literal["class_folders"] = "class_folders"
        root: Path = Field(description="the folder")
        resize: int | None = Field(
            default=None,
            ge=1,
            description="scale the shorter side to this and cut the centre square; unset: as they are",
        )
        channels: Literal[1, 3] = Field(default=3, description="3 turns grey images to colour, 1 turns colour to grey")
        test_share: float = Field(
            default=0.2, gt=0, lt=1, description="share of the classes for testing, without a test folder"
        )
        split_seed: int = Field(default=0, description="seed of that choice")
        skip_broken: bool = Field(default=False, description="leave out images that cannot be read, with a warning")

    config: Config

    def load(self) -> ClassSplitData:
        root = self.config.root
        where = f"class_folders {root}"
        if not root.is_dir():
            raise DataError(f"{where}: no such folder")
        if _is_part(root / "train"):
            if not _is_part(root / "test"):
                raise DataError(f"{where}: there is {root / 'train'} but no class folder in {root / 'test'}")
            validation = self._read(root / "val", where) if _is_part(root / "val") else None
            data = ClassSplitData(self._read(root / "train", where), validation, self._read(root / "test", where))
        else:
            share = Fraction(str(self.config.test_share))
            train, test = split_classes(self._read(root, where), share, self.config.split_seed)
            data = ClassSplitData(train, None, test)
        check_class_splits(data, where)
        return data

    def _read(self, root: Path, where: str) -> ClassSet:
        classes = tuple(folder.name for folder in class_folders(root))
        files, labels = list_images(root, classes, where)
        images, kept = decode(
            files,
            where,
            channels=self.config.channels,
            resize=self.config.resize,
            skip_broken=self.config.skip_broken,
        )
        return ClassSet(ImageSet(images, torch.tensor(labels)[kept]), classes)


def _is_part(root: Path) -> bool:
    return root.is_dir() and bool(class_folders(root))
