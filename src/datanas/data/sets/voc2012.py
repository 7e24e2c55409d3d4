"""PASCAL VOC 2012 (Everingham et al., IJCV 2015) as torchvision unpacks it, or a part of it packed as one .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import read_text, require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.decode.archive import Archive
from datanas.data.decode.encoded import encoded_images
from datanas.data.decode.masks import Pair, decode_pairs
from datanas.data.types.masks import SegmentationData, check_masks

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
PACKED = "voc2012_subset.npz"
AUGMENTED_LISTS = ("train_aug.txt", "trainaug.txt")
"""What the list of 10,582 training images is called that has the masks of SBD (Hariharan et al., ICCV 2011) too."""


@register_dataset("voc2012")
class Voc2012(Dataset[SegmentationData]):
    """20 classes and the background; the official validation images are the test part, as their masks are public.

    Training images are those of the official list `train`, or with the masks of SBD those of `train_aug`.
    """

    class Config(ComponentConfig):
        name: Literal["voc2012"] = "voc2012"
        root: Path = Field(description=f"the folder of VOCdevkit or of {PACKED}, VOC2012 itself, or an .npz file")
        augmented: bool | None = Field(
            default=None,
            description="train with SBD's masks too (SegmentationClassAug and a list train_aug.txt); null: where they "
            "are there",
        )
        longest: int | None = Field(default=None, ge=1, description="reduce images to this length of the longer side")

    packed_arrays = frozenset({"train_jpg", "train_jpg_off", "train_png", "train_png_off"})
    config: Config

    def load(self) -> SegmentationData:
        root = self.config.root
        where = f"voc2012 {shown(root)}"
        if root.suffix != ".npz":
            require_folder(root, DataError, where)
        if root.suffix == ".npz" or (root / PACKED).is_file():
            archive = Archive(root if root.suffix == ".npz" else root / PACKED, where)
            train, test = (_packed_pairs(archive, part, where) for part in ("train", "val"))
        else:
            train, test = self._listed_pairs(where)
        if twice := {pair.name for pair in train} & {pair.name for pair in test}:
            raise DataError(
                f"{where}: the list for training and val both name {min(twice)}; what is tested must not be trained on"
            )
        longest = self.config.longest
        data = SegmentationData(
            decode_pairs(train, f"{where}: train", longest=longest),
            decode_pairs(test, f"{where}: val", longest=longest),
            CLASSES,
            bears_mirroring=True,
        )
        check_masks(data, where)
        return data

    def _listed_pairs(self, where: str) -> tuple[list[Pair], list[Pair]]:
        root = self.config.root
        candidates = (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root)
        folder = next((folder for folder in candidates if (folder / "JPEGImages").is_dir()), None)
        if folder is None:
            raise DataError(
                f"{where}: nothing found; looked for JPEGImages in {', '.join(map(str, candidates))} and for "
                f"{root / PACKED}; unpack VOCtrainval_11-May-2012.tar there or set --data.root"
            )
        lists = folder / "ImageSets" / "Segmentation"
        augmented = next((lists / name for name in AUGMENTED_LISTS if (lists / name).is_file()), None)
        masks = folder / "SegmentationClassAug"
        has_augmented = augmented is not None and masks.is_dir()
        if self.config.augmented and not has_augmented:
            raise DataError(f"{where}: data.augmented needs {masks} and {lists / AUGMENTED_LISTS[0]}")
        official = folder / "SegmentationClass"
        test = _pairs(folder, lists / "val.txt", official if official.is_dir() else masks, where)
        if augmented is None or not has_augmented or self.config.augmented is False:
            return _pairs(folder, lists / "train.txt", official, where), test
        return _pairs(folder, augmented, masks, where), test


def _pairs(folder: Path, names: Path, masks: Path, where: str) -> list[Pair]:
    """The images that a list names: of each line the first word, without folder and ending, as lists differ in them."""
    lines = read_text(names, DataError).splitlines()
    listed = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not listed:
        raise DataError(f"{where}: {names} names no images")
    return [Pair(name, folder / "JPEGImages" / f"{name}.jpg", masks / f"{name}.png") for name in listed]


def _packed_pairs(archive: Archive, part: str, where: str) -> list[Pair]:
    """JPEG images `*_jpg` and PNG masks `*_png`."""
    images = encoded_images(archive, f"{part}_jpg", f"{part}_jpg_off", where)
    masks = encoded_images(archive, f"{part}_png", f"{part}_png_off", where)
    names = archive[f"{part}_id"]
    if not len(images) == len(masks) == len(names):
        raise DataError(f"{where}: {part} has {len(images)} images, {len(masks)} masks and {len(names)} names")
    return [Pair(str(name), image, mask) for name, image, mask in zip(names, images, masks, strict=True)]
