"""Class folders of any size, such as ImageNet's: decoded batch by batch, never held in memory."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from datanas.core.cores import usable_cores
from datanas.core.errors import DataError
from datanas.core.paths import path_errors, require_folder, shown
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.decode.depth import settle_white
from datanas.data.decode.image_list import ImageList
from datanas.data.decode.images import PixelConfig, read_image
from datanas.data.decode.open_image import BrokenImageError, PixelForm
from datanas.data.groups import train_groups_by_folder
from datanas.data.sets.folder import GROUP_BY_FOLDER, list_parts, parts_of
from datanas.data.types.file_set import FileSet, ImageFileData, Reading, tell_equal_files

MEAN = {3: (0.485, 0.456, 0.406), 1: (0.449,)}
"""Of ImageNet's training images, and of the grey ones that they become."""
STD = {3: (0.229, 0.224, 0.225), 1: (0.226,)}
_OF_8_BITS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})

_log = logging.getLogger(__name__)
_Moment = tuple[Annotated[float, Field(ge=0, le=1)], ...]


@register_dataset("image_files")
class ImageFiles(Dataset[ImageFileData]):
    """`root/train/CLASS/*` and `root/val/CLASS/*` (or `test`), of which only the list of files is kept in memory.

    A class is the name of its folder, and classes are in alphabetical order; images may lie deeper in it. Training
    images are random crops, others the centre. With `group_by_folder` the images of a folder inside a class are on one
    side of every split.
    """

    class Config(PixelConfig):
        name: Literal["image_files"] = "image_files"
        root: Path = Field(description="the folder")
        size: int = Field(default=224, ge=1, description="side of the square that a network sees")
        resize: int = Field(
            default=256, ge=1, description="shorter side of an image before its centre is cut out for measuring"
        )
        smallest_crop: float = Field(
            default=0.08, gt=0, le=1, description="share of the area that a random crop takes at least; 1 takes all"
        )
        channels: Literal[1, 3] = Field(default=3, description="3 turns grey images to colour, 1 turns colour to grey")
        mean: _Moment | None = Field(default=None, description="of each channel, in 0..1; null for that of ImageNet")
        std: _Moment | None = Field(default=None, description="likewise, above 0")
        workers: int | None = Field(default=None, ge=1, description="threads that decode; null for one a processor")
        look_ahead: int = Field(default=2, ge=0, description="batches that are decoded before they are needed")
        skip_broken: bool = Field(
            default=False, description="read every file once at the start and leave out the broken ones, with a warning"
        )
        group_by_folder: bool = Field(default=False, description=GROUP_BY_FOLDER)

        @model_validator(mode="after")
        def fits(self) -> ImageFiles.Config:
            if self.resize < self.size:
                raise ValueError(f"resize must be at least size ({self.size}), got {self.resize}")
            for label, values in (("mean", self.mean), ("std", self.std)):
                if values is not None and len(values) != self.channels:
                    raise ValueError(f"{label} needs a number for each of {self.channels} channels, got {len(values)}")
            if self.std is not None and min(self.std) == 0:
                raise ValueError(f"std must be above 0, got {self.std}")
            return self

    config: Config

    def load(self) -> ImageFileData:
        config, root = self.config, self.config.root
        where = f"image_files {shown(root)}"
        require_folder(root, DataError, where)
        parts = parts_of(root, where)
        if "train" not in parts:
            raise DataError(f"{where}: no folder {root / 'train'}; expected {root / 'train' / 'CLASS' / 'image.jpg'}")
        images = ImageList(where)
        listed, classes = list_parts(parts, images, where)
        images.tell()
        form = config.form(config.channels)
        # A JPEG has 8 bits: a million of them need not be opened to know that.
        deep = [file for files, _ in listed.values() for file in files if file.suffix.lower() not in _OF_8_BITS]
        reading = self._reading(settle_white(deep, form, where))
        train, test = (
            self._set(folder, *files_and_labels, reading, where) for folder, files_and_labels in listed.items()
        )
        tell_equal_files(train, test)
        mean, std = config.mean or MEAN[config.channels], config.std or STD[config.channels]
        groups = train_groups_by_folder(train.names, test.names, where) if config.group_by_folder else None
        return ImageFileData(train, test, classes, torch.tensor(mean), torch.tensor(std), train_groups=groups)

    def _set(self, folder: Path, files: list[Path], labels: list[int], reading: Reading, where: str) -> FileSet:
        if self.config.skip_broken:
            files, labels = self._sound(files, labels, reading, where)
        with path_errors(folder, DataError):
            sizes = [file.stat().st_size for file in files]
        if not all(sizes):
            raise DataError(
                f"{where}: {files[sizes.index(0)]} is empty; remove it, or set --data.skip_broken true to leave such "
                "files out"
            )
        names = tuple(str(file.relative_to(folder)) for file in files)
        return FileSet(folder, names, torch.tensor(sizes), torch.tensor(labels), reading, where)

    def _reading(self, form: PixelForm) -> Reading:
        config = self.config
        workers = config.workers or usable_cores()
        return Reading(config.size, config.resize, config.smallest_crop, form, workers, config.look_ahead)

    def _sound(
        self, files: list[Path], labels: list[int], reading: Reading, where: str
    ) -> tuple[list[Path], list[int]]:
        """The files that can be read, and their labels."""
        with ThreadPoolExecutor(reading.workers) as pool:
            sound = list(pool.map(lambda file: _is_sound(file, reading), files))
        broken = [file for file, is_sound in zip(files, sound, strict=True) if not is_sound]
        if broken:
            _log.warning(
                "%s: left out %d broken of %d images, the first is %s", where, len(broken), len(files), broken[0]
            )
        indices = [index for index, is_sound in enumerate(sound) if is_sound]
        lost = set(labels) - {labels[index] for index in indices}
        if lost:
            empty = files[labels.index(min(lost))].parent
            raise DataError(f"{where}: {empty} holds no image that can be read; each class needs at least one")
        return [files[index] for index in indices], [labels[index] for index in indices]


def _is_sound(file: Path, reading: Reading) -> bool:
    try:
        read_image(file, reading.form, reading.centre)
    except BrokenImageError:
        return False
    return True
