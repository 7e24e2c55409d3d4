"""Omniglot (Lake, Salakhutdinov and Tenenbaum, Science 2015): handwritten characters, each drawn by twenty people."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import require_file, require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageSet
from datanas.data.decode.archive import Archive, to_labels
from datanas.data.decode.arrays import to_images
from datanas.data.decode.image_list import class_folders, list_images
from datanas.data.decode.images import decode
from datanas.data.decode.open_image import PixelForm
from datanas.data.types.class_splits import ClassSet, ClassSplitData, check_class_splits

PACKED = "omniglot_small.npz"
SIDE = 28
FOLDERS = {"train": "images_background", "test": "images_evaluation"}
DEGREES = (90, 180, 270)


@register_dataset("omniglot")
class Omniglot(Dataset[ClassSplitData]):
    """Grey drawings of 28x28 pixels, ink bright. A class is a character, and no alphabet is in both parts.

    Either the original folders `ALPHABET/CHARACTER/*.png`, or one packed file.
    """

    class Config(ComponentConfig):
        name: Literal["omniglot"] = "omniglot"
        root: Path = Field(
            description=f"the folder of {' and '.join(FOLDERS.values())}, or of {PACKED}, or an .npz file"
        )
        rotations: bool = Field(
            default=False,
            description="make three more classes of each training character, by turning it (Vinyals et al., 2016)",
        )

    packed_arrays = frozenset({"train_x", "train_y", "train_alphabet", "train_alphabets"})
    config: Config

    def load(self) -> ClassSplitData:
        root = self.config.root
        if root.suffix != ".npz":
            require_folder(root, DataError, f"omniglot {shown(root)}")
        if all((root / folder).is_dir() for folder in FOLDERS.values()):
            where = f"omniglot {root}"
            train, test = (_read_folder(root / folder, where) for folder in FOLDERS.values())
        else:
            path = root if root.suffix == ".npz" else root / PACKED
            if path == root:
                require_file(path, DataError, f"omniglot {shown(path)}")
            if not path.is_file():
                looked_for = ", ".join(str(root / name) for name in (*FOLDERS.values(), PACKED))
                raise DataError(f"omniglot: nothing found; looked for {looked_for}; set --data.root")
            where = f"omniglot {path}"
            archive = Archive(path, where)
            train, test = (_read_packed(archive, split, where) for split in FOLDERS)
        if self.config.rotations:
            train = rotated(train)
        data = ClassSplitData(train, None, test)
        check_class_splits(data, where)
        return data


def rotated(part: ClassSet) -> ClassSet:
    """The classes of square images, and each of them turned by 90, 180 and 270 degrees as a further class."""
    count, images, labels = len(part.classes), part.images.images, part.images.labels
    turned = [images, *(images.rot90(degrees // 90, dims=(2, 3)) for degrees in DEGREES)]
    names = [f"{name}, turned by {degrees} degrees" for degrees in DEGREES for name in part.classes]
    return ClassSet(
        ImageSet(torch.cat(turned), torch.cat([labels + turn * count for turn in range(len(turned))])),
        (*part.classes, *names),
    )


def _read_packed(archive: Archive, split: str, where: str) -> ClassSet:
    images = to_images(archive[f"{split}_x"], "auto", f"{where}: {split}_x")
    labels = to_labels(archive[f"{split}_y"], f"{where}: {split}_y")
    if len(images) != len(labels):
        raise DataError(f"{where}: {split}_x holds {len(images)} images but {split}_y {len(labels)} labels")
    alphabets, of = archive[f"{split}_alphabets"].tolist(), archive[f"{split}_alphabet"].tolist()
    if of and max(of) >= len(alphabets):
        raise DataError(f"{where}: {split}_alphabet names alphabet {max(of)}; there are {len(alphabets)}")
    names = tuple(f"{alphabets[alphabet]}/{of[:index].count(alphabet) + 1:02d}" for index, alphabet in enumerate(of))
    return ClassSet(ImageSet(images, labels), names)


def _read_folder(root: Path, where: str) -> ClassSet:
    """The original drawings, of 105x105 pixels with black ink on white."""
    files: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    for alphabet in class_folders(root):
        characters = tuple(folder.name for folder in class_folders(alphabet))
        drawings, of = list_images(alphabet, characters, where)
        files += drawings
        labels += [len(names) + label for label in of]
        names += [f"{alphabet.name}/{character}" for character in characters]
    if not files:
        raise DataError(
            f"{where}: {root} holds no drawings; expected {root / 'ALPHABET' / 'CHARACTER' / 'drawing.png'}"
        )
    images, _ = decode(files, where, form=PixelForm(channels=1), resize=SIDE, skip_broken=False)
    return ClassSet(ImageSet(255 - images, torch.tensor(labels)), tuple(names))
