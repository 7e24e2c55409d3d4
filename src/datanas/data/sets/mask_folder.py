"""Any folder of images with a folder of masks beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from datanas.core.errors import DataError
from datanas.core.paths import is_file, is_folder, read_text, require_folder, shown
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.decode.depth import settle_white
from datanas.data.decode.image_list import SUFFIXES, ImageList, class_folders
from datanas.data.decode.images import PixelConfig
from datanas.data.decode.masks import Pair, Palette, decode_pairs
from datanas.data.decode.parts import Part, find_parts
from datanas.data.decode.suspect import Examined, examine, tell_suspects
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet, check_masks

NAMES_FILE = "classes.txt"
_SHOWN: dict[Part, str] = {"validation": "val"}


@register_dataset("mask_folder")
class MaskFolder(Dataset[SegmentationData]):
    """`root/train/images/*` and for each a mask of its name in `root/train/masks`; `test` or `val` likewise.

    Where both are there, `val` is for validation. A mask holds the number of a class in every pixel, as grey value or
    place in a palette. `root/classes.txt` names the classes from 0, a line each. Names that tools keep to themselves
    are passed over (`is_hidden`), and parts may be called otherwise (`part_of`).
    """

    class Config(PixelConfig):
        name: Literal["mask_folder"] = "mask_folder"
        root: Path = Field(description="the folder")
        classes: int | None = Field(default=None, ge=2, le=VOID, description="how many, where classes.txt is missing")
        void: tuple[int, ...] = Field(default=(), description="values of masks, besides 255, that are of no class")
        values: tuple[int, ...] | None = Field(
            default=None,
            min_length=2,
            description="the values of the classes in masks, in their order, such as 0, 255; 255 is void no more where "
            "it is one of them; null: 0, 1, 2, ...",
        )
        palettes_differ: bool = Field(
            default=False, description="allow palettes in which a number has other colours; only the number counts"
        )
        longest: int | None = Field(default=None, ge=1, description="reduce images to this length of the longer side")

        @field_validator("values")
        @classmethod
        def distinct(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"each class needs a value of its own, got {list(values)}")
            return values

    config: Config

    def load(self) -> SegmentationData:
        root = self.config.root
        where = f"mask_folder {shown(root)}"
        require_folder(root, DataError, where)
        classes = self._classes(where)
        parts = self._parts(where)
        images = ImageList(where)
        pairs = {
            part: match_pairs(folder / "images", folder / "masks", where, images) for part, folder in parts.items()
        }
        images.tell()
        every = [pair.image for listed in pairs.values() for pair in listed]
        form = settle_white(every, self.config.form(3), where)
        void = tuple(value for value in (VOID, *self.config.void) if value not in (self.config.values or ()))
        palette = Palette(may_differ=self.config.palettes_differ)
        sets = {
            part: decode_pairs(
                listed,
                f"{where}: {_SHOWN.get(part, part)}",
                void=void,
                values=self.config.values,
                palette=palette,
                longest=self.config.longest,
                form=form,
            )
            for part, listed in pairs.items()
        }
        held = sets.get("validation") if "test" in sets else None
        test = sets["test" if "test" in sets else "validation"]
        data = SegmentationData(sets["train"], test, classes, held, pixels=form, longest=self.config.longest)
        check_masks(data, where)
        tell_suspects({name: examine_masks(part) for name, part in data.parts().items()}, where)
        return data

    def _parts(self, where: str) -> dict[Part, Path]:
        root = self.config.root
        parts = find_parts(class_folders(root), where, lambda folder: [each.name for each in class_folders(folder)])
        if "train" not in parts:
            raise DataError(f"{where}: no such folder: {root / 'train' / 'images'}")
        if len(parts) < 2:
            raise DataError(f"{where}: there is {parts['train']} but neither test nor val beside it")
        return parts

    def _classes(self, where: str) -> tuple[str, ...]:
        file = self.config.root / NAMES_FILE
        values, count = self.config.values, self.config.classes
        if count is None and values is not None:
            count = len(values)
        if not is_file(file, DataError):
            if count is None:
                raise DataError(f"{where}: how many classes? name them in {file}, a line each, or set --data.classes N")
            names = tuple(map(str, range(count)))
        else:
            names = tuple(line.strip() for line in read_text(file, DataError).splitlines() if line.strip())
            if repeated := [name for name in names if names.count(name) > 1]:
                raise DataError(f"{where}: {file} names {repeated[0]!r} twice")
            if self.config.classes not in (None, len(names)):
                raise DataError(f"{where}: {file} names {len(names)} classes, but data.classes is {count}")
        if values is not None and len(values) != len(names):
            raise DataError(f"{where}: there are {len(names)} classes, but data.values gives {len(values)} values")
        return names


def examine_masks(part: SegmentationSet) -> Examined:
    """What is suspicious of images with masks: one image under two masks among it."""
    labels = [hash(mask.numpy().tobytes()) for mask in part.masks]
    return examine(part.images, labels, part.names.__getitem__)


def match_pairs(images: Path, masks: Path, where: str, listed: ImageList | None = None) -> list[Pair]:
    """The images of a folder, by name, each with the mask of that name in another.

    Args:
        listed: remembers what is left out; None to tell it now.

    Raises:
        DataError: a folder is missing or holds no images, or an image has no mask or several.
    """
    image_list = ImageList(where) if listed is None else listed
    for folder in (images, masks):
        if not is_folder(folder, DataError):
            raise DataError(f"{where}: no such folder: {folder}")
    files = image_list.inside(images)
    if not files:
        raise DataError(f"{where}: {images} holds no images ({', '.join(sorted(SUFFIXES))})")
    by_name: dict[str, list[Path]] = {}
    for file in image_list.inside(masks):
        by_name.setdefault(file.stem, []).append(file)
    pairs: dict[str, Pair] = {}
    for file in files:
        matching = by_name.get(file.stem, [])
        if len(matching) != 1:
            fault = "has no mask" if not matching else f"has {len(matching)} masks"
            raise DataError(f"{where}: image {file} {fault} in {masks}; one file of the name {file.stem}.* is needed")
        if file.stem in pairs:
            raise DataError(f"{where}: {images} holds two images of the name {file.stem!r}")
        pairs[file.stem] = Pair(file.name, file, matching[0])
    for name in by_name.keys() - pairs.keys():
        image_list.leave_out("masks without an image", by_name[name][0])
    if listed is None:
        image_list.tell()
    return list(pairs.values())
