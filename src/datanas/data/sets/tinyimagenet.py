"""Tiny-ImageNet (Stanford, CS231n): the folder as it is unpacked, or some of its classes packed as one .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import read_text, require_file, require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images
from datanas.data.decode.archive import Archive, to_labels
from datanas.data.decode.encoded import decode_encoded, encoded_images
from datanas.data.decode.image_list import class_folders, list_images
from datanas.data.decode.images import decode
from datanas.data.decode.open_image import PixelForm

FOLDER, FILES = "tiny-imagenet-200", ("tinyimagenet.npz", "tinyimagenet20.npz")
ANNOTATIONS = Path("val", "val_annotations.txt")
SHAPE = (3, 64, 64)


@register_dataset("tinyimagenet")
class TinyImageNet(Dataset[ImageData]):
    """Colour photographs of 64x64 pixels, 500 a class for training; its validation images are for testing.

    Of the published test images no labels are known. Classes are in the order of their WordNet numbers, or in that of
    the packed file.
    """

    class Config(ComponentConfig):
        name: Literal["tinyimagenet"] = "tinyimagenet"
        root: Path = Field(description=f"the folder {FOLDER}, one that holds it or {FILES[-1]}, or an .npz file")
        train_images: int | None = Field(
            default=None, ge=1, description="only the first so many, classes as even as possible"
        )
        test_images: int | None = Field(
            default=None, ge=1, description="only the first so many, classes as even as possible"
        )

    packed_arrays = frozenset({"train_jpg", "train_off", "train_y", "val_jpg", "val_y", "classes"})
    config: Config

    def load(self) -> ImageData:
        path = self._find()
        where = f"tinyimagenet {path}"
        train, test, classes = _read_npz(path, where) if path.is_file() else _read_folder(path, where)
        if train.images.shape[1:] != SHAPE:
            raise DataError(f"{where}: images must be 64x64, got {train.images.shape[3]}x{train.images.shape[2]}")
        train = _prefix(train, self.config.train_images, f"{where}: train_images")
        test = _prefix(test, self.config.test_images, f"{where}: test_images")
        check_images(train, test, classes, where)
        return ImageData(train, test, classes, bears_mirroring=True)

    def _find(self) -> Path:
        root = self.config.root
        known = [*(root / name for name in FILES), root / FOLDER / ANNOTATIONS, root / ANNOTATIONS]
        if root.suffix == ".npz":
            require_file(root, DataError, f"tinyimagenet {shown(root)}")
            known = [root]
        else:
            require_folder(root, DataError, f"tinyimagenet {shown(root)}")
        for path in known:
            if path.is_file():
                return path.parents[1] if path.name == ANNOTATIONS.name else path
        raise DataError(f"tinyimagenet: nothing found; looked for {', '.join(map(str, known))}; set --data.root")


_Parts = tuple[ImageSet, ImageSet, tuple[str, ...]]


def _prefix(part: ImageSet, count: int | None, where: str) -> ImageSet:
    if count is None:
        return part
    if count > len(part):
        raise DataError(f"{where} is {count} but there are only {len(part)}")
    return part.balanced_prefix(count)


def _read_npz(path: Path, where: str) -> _Parts:
    """Encoded images end to end, their labels and the names of the classes."""
    archive = Archive(path, where)
    parts = []
    for split in ("train", "val"):
        labels = to_labels(archive[f"{split}_y"], f"{where}: {split}_y")
        files = encoded_images(archive, f"{split}_jpg", f"{split}_off", where)
        if len(files) != len(labels):
            raise DataError(f"{where}: {split}_jpg holds {len(files)} images but {split}_y {len(labels)} labels")
        parts.append(ImageSet(decode_encoded(files, SHAPE, f"{where}: {split}", "free some memory"), labels))
    return parts[0], parts[1], tuple(str(name) for name in archive["classes"].tolist())


def _read_folder(root: Path, where: str) -> _Parts:
    """`train/CLASS/images/*`, and `val/images/*` whose classes stand in `val_annotations.txt`."""
    if not (root / "train").is_dir():
        raise DataError(f"{where}: no folder {root / 'train'}")
    classes = tuple(folder.name for folder in class_folders(root / "train"))
    parts = []
    for files, labels in (list_images(root / "train", classes, where), _annotated(root, classes, where)):
        images, _ = decode(files, where, form=PixelForm(), resize=None, skip_broken=False)
        parts.append(ImageSet(images, torch.tensor(labels)))
    return parts[0], parts[1], classes


def _annotated(root: Path, classes: tuple[str, ...], where: str) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(read_text(root / ANNOTATIONS, DataError).splitlines(), start=1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in classes:
            raise DataError(f"{where}: {ANNOTATIONS} line {number}: {wnid!r} is no class of {root / 'train'}")
        file = root / "val" / "images" / name
        if not file.is_file():
            raise DataError(f"{where}: {ANNOTATIONS} line {number}: no such file: {file}")
        files.append(file)
        labels.append(classes.index(wnid))
    if not files:
        raise DataError(f"{where}: {ANNOTATIONS} names no images")
    return files, labels
