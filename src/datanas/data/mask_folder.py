"""Any folder of images with a folder of masks beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from datanas.config import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.decode_masks import Pair, decode_pairs
from datanas.data.folder import SUFFIXES
from datanas.data.masks import VOID, SegmentationData, SegmentationSet, check_masks
from datanas.errors import DataError

NAMES_FILE = "classes.txt"


@register_dataset("mask_folder")
class MaskFolder(Dataset[SegmentationData]):
    """`root/train/images/*` and for each a mask of its name in `root/train/masks`; `test` or `val` likewise.

    Where both are there, `val` is for validation. A mask holds the number of a class in every pixel, as grey value or
    place in a palette. `root/classes.txt` names the classes from 0, a line each. Names that begin with a dot are passed
    over.
    """

    class Config(ComponentConfig):
        name: Literal["mask_folder"] = "mask_folder"
        root: Path = Field(description="the folder")
        classes: int | None = Field(default=None, ge=2, le=VOID, description="how many, where classes.txt is missing")
        void: tuple[int, ...] = Field(default=(), description="values of masks, besides 255, that are of no class")
        longest: int | None = Field(default=None, ge=1, description="reduce images to this length of the longer side")

    config: Config

    def load(self) -> SegmentationData:
        root = self.config.root
        where = f"mask_folder {root}"
        if not root.is_dir():
            raise DataError(f"{where}: no such folder")
        classes = self._classes(where)
        train = self._read("train", where)
        held = [part for part in ("test", "val") if (root / part).is_dir()]
        if not held:
            raise DataError(f"{where}: there is {root / 'train'} but neither test nor val beside it")
        test = self._read(held[0], where)
        data = SegmentationData(train, test, classes, self._read("val", where) if len(held) == 2 else None)
        check_masks(data, where)
        return data

    def _classes(self, where: str) -> tuple[str, ...]:
        file = self.config.root / NAMES_FILE
        if not file.is_file():
            if self.config.classes is None:
                raise DataError(f"{where}: how many classes? name them in {file}, a line each, or set --data.classes N")
            return tuple(map(str, range(self.config.classes)))
        try:
            names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{where}: {file} cannot be read ({error})") from None
        if repeated := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{where}: {file} names {repeated[0]!r} twice")
        if self.config.classes not in (None, len(names)):
            raise DataError(f"{where}: {file} names {len(names)} classes, but data.classes is {self.config.classes}")
        return names

    def _read(self, part: str, where: str) -> SegmentationSet:
        folder = self.config.root / part
        pairs = match_pairs(folder / "images", folder / "masks", where)
        void = (VOID, *self.config.void)
        return decode_pairs(pairs, f"{where}: {part}", void=void, longest=self.config.longest)


def match_pairs(images: Path, masks: Path, where: str) -> list[Pair]:
    """The images of a folder, by name, each with the mask of that name in another.

    Raises:
        DataError: a folder is missing or holds no images, or an image has no mask or several.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{where}: no such folder: {folder}")
    files = _image_files(images)
    if not files:
        raise DataError(f"{where}: {images} holds no images ({', '.join(sorted(SUFFIXES))})")
    by_name: dict[str, list[Path]] = {}
    for file in _image_files(masks):
        by_name.setdefault(file.stem, []).append(file)
    pairs: dict[str, Pair] = {}
    for file in files:
        found = by_name.get(file.stem, [])
        if len(found) != 1:
            fault = "has no mask" if not found else f"has {len(found)} masks"
            raise DataError(f"{where}: image {file} {fault} in {masks}; one file of the name {file.stem}.* is needed")
        if file.stem in pairs:
            raise DataError(f"{where}: {images} holds two images of the name {file.stem!r}")
        pairs[file.stem] = Pair(file.name, file, found[0])
    return list(pairs.values())


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
