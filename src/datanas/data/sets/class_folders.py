"""Any folder of class folders of images, parted by class: whole classes are for testing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch

from datanas.core.errors import DataError
from datanas.core.paths import require_folder, shown
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageSet
from datanas.data.decode.depth import settle_white
from datanas.data.decode.image_list import ImageList, class_folders
from datanas.data.decode.image_sides import some_sizes
from datanas.data.decode.images import decode
from datanas.data.decode.open_image import PixelForm
from datanas.data.decode.suspect import Examined, examine_set, tell_suspects
from datanas.data.sets.folder import FolderConfig, parts_of
from datanas.data.types.class_splits import ClassSet, ClassSplitData, check_class_splits, split_classes


@register_dataset("class_folders")
class ClassFolders(Dataset[ClassSplitData]):
    """`root/train/CLASS/*`, `root/test/CLASS/*` and, if wanted, `root/val/CLASS/*`, or `root/CLASS/*` to be parted.

    A class is the name of its folder, and is in one part only; images may lie deeper in it. Names that tools keep to
    themselves are passed over (`is_hidden`), and parts may be called otherwise (`part_of`).
    """

    class Config(FolderConfig):
        name: Literal["class_folders"] = "class_folders"

    config: Config

    def image_sizes(self) -> list[tuple[int, int]]:
        return some_sizes(self.config.root)

    def load(self) -> ClassSplitData:
        root = self.config.root
        where = f"class_folders {shown(root)}"
        require_folder(root, DataError, where)
        parts = parts_of(root, where)
        if parts and "test" not in parts:
            raise DataError(f"{where}: there is {parts['train']} but no class folder in {root / 'test'}")
        if parts and not class_folders(parts["test"]):
            raise DataError(f"{where}: there is {parts['train']} but no class folder in {parts['test']}")
        folders = {name: folder for name, folder in parts.items() if class_folders(folder)} or {"train": root}
        images = ImageList(where)
        if parts:
            for folder in class_folders(root):
                if folder not in folders.values():
                    images.leave_out_below("beside the parts", folder)
        listed = {
            name: (_names(folder), *images.of_classes(folder, _names(folder))) for name, folder in folders.items()
        }
        images.tell()
        form = self.config.form(self.config.channels)
        form = settle_white([file for _, files, _ in listed.values() for file in files], form, where)
        loaded = {name: self._read(*each, form, where) for name, each in listed.items()}
        sets, names = {name: each[0] for name, each in loaded.items()}, {name: each[1] for name, each in loaded.items()}
        if parts:
            train, held, test = sets["train"], sets.get("validation"), sets["test"]
        else:
            share = Fraction(str(self.config.test_share))
            held, (train, test) = None, split_classes(sets["train"], share, self.config.split_seed)
        data = ClassSplitData(train, held, test, pixels=form, is_scaled=self.config.resize is not None)
        check_class_splits(data, where)
        examined: dict[str, Examined] = {
            name: examine_set(part.images, part.classes, names[name].__getitem__) for name, part in sets.items()
        }
        tell_suspects(examined, where)
        return data

    def _read(
        self, classes: tuple[str, ...], files: list[Path], labels: list[int], form: PixelForm, where: str
    ) -> tuple[ClassSet, list[str]]:
        """The images that can be read, and what each is called."""
        images, rows = decode(files, where, form=form, resize=self.config.resize, skip_broken=self.config.skip_broken)
        return ClassSet(ImageSet(images, torch.tensor(labels)[rows]), classes), [str(files[row]) for row in rows]


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(each.name for each in class_folders(folder))
