"""Any folder of class folders of images."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.paths import require_folder, shown
from datanas.data import register_dataset
from datanas.data.base import UNLABELLED, Dataset, ImageData, ImageSet, check_images
from datanas.data.decode.depth import settle_white
from datanas.data.decode.image_list import SUFFIXES, ImageList, class_folders
from datanas.data.decode.image_sides import some_sizes
from datanas.data.decode.images import PixelConfig, decode
from datanas.data.decode.open_image import PixelForm
from datanas.data.decode.parts import Part, find_parts
from datanas.data.decode.suspect import examine_set, tell_suspects
from datanas.data.groups import by_folder, train_groups_by_folder
from datanas.data.types.targets import parted

GROUP_BY_FOLDER = "never split the images of a folder inside a class, nor those of its name in other classes"


class FolderConfig(PixelConfig):
    """The settings of data sets that are folders of class folders."""

    root: Path = Field(description="the folder")
    resize: int | None = Field(
        default=None,
        ge=1,
        description="scale the shorter side to this and cut the centre square; unset: as they are",
    )
    channels: Literal[1, 3] = Field(default=3, description="3 turns grey images to colour, 1 turns colour to grey")
    test_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share of each class, or of the classes, for testing, without a test folder",
    )
    split_seed: int = Field(default=0, description="seed of that choice")
    skip_broken: bool = Field(default=False, description="leave out images that cannot be read, with a warning")


@register_dataset("folder")
class Folder(Dataset[ImageData]):
    """`root/train/CLASS/*` with `root/test/CLASS/*` (or `val`), or `root/CLASS/*` to be split.

    A class is the name of its folder, and classes are in alphabetical order; images may lie deeper in it. Names that
    tools keep to themselves are passed over (`is_hidden`), and parts may be called otherwise (`part_of`). Images that
    lie in no class folder are unlabelled, where there is none. With `group_by_folder` the images of a folder inside a
    class, such as those of one patient, are on one side of every split.
    """

    class Config(FolderConfig):
        name: Literal["folder"] = "folder"
        group_by_folder: bool = Field(default=False, description=GROUP_BY_FOLDER)

    config: Config

    def image_sizes(self) -> list[tuple[int, int]]:
        return some_sizes(self.config.root)

    def load(self) -> ImageData:
        root = self.config.root
        where = f"folder {shown(root)}"
        require_folder(root, DataError, where)
        images = ImageList(where)
        parts = parts_of(root, where)
        if parts:
            listed, classes = list_parts(parts, images, where)
        else:
            _require_no_wrapper(root, where)
            whole, classes = labelled(root, images)
            listed = {root: whole}
        images.tell()
        form = settle_white([file for files, _ in listed.values() for file in files], self._form(), where)
        read = [self._read(folder, *files_and_labels, form, where) for folder, files_and_labels in listed.items()]
        (train, names), (test, test_names) = read if parts else self._split(*read[0], classes, where)
        check_images(train, test, classes, where, fewest_classes=1)
        examined = {
            "train": examine_set(train, classes, names.__getitem__),
            "test": examine_set(test, classes, test_names.__getitem__),
        }
        tell_suspects(examined, where)
        groups = train_groups_by_folder(names, test_names, where) if self.config.group_by_folder else None
        is_scaled = self.config.resize is not None
        return ImageData(train, test, classes, pixels=form, is_scaled=is_scaled, train_groups=groups)

    def _form(self) -> PixelForm:
        return self.config.form(self.config.channels)

    def _read(
        self, root: Path, files: list[Path], labels: list[int], form: PixelForm, where: str
    ) -> tuple[ImageSet, list[str]]:
        """The images that can be read, and the path of each below `root`."""
        images, indices = decode(
            files, where, form=form, resize=self.config.resize, skip_broken=self.config.skip_broken
        )
        names = [files[index].relative_to(root).as_posix() for index in indices]
        return ImageSet(images, torch.tensor(labels)[indices]), names

    def _split(
        self, both: ImageSet, names: list[str], classes: tuple[str, ...], where: str
    ) -> tuple[tuple[ImageSet, list[str]], tuple[ImageSet, list[str]]]:
        share, seed = self.config.test_share, self.config.split_seed
        if self.config.group_by_folder:
            train, test = parted(both.labels, None, share, seed, by_folder(names))
        else:
            is_test = split_by_name(both, names, classes, share, seed, where)
            train, test = ((chosen).nonzero().flatten() for chosen in (~is_test, is_test))
        return (
            (both.select(train), [names[index] for index in train.tolist()]),
            (both.select(test), [names[index] for index in test.tolist()]),
        )


def split_by_name(
    both: ImageSet, names: list[str], classes: tuple[str, ...], share: float, seed: int, where: str
) -> Bool[Tensor, " n"]:
    """Which images are for testing, a share of each class.

    By the images' own names, so that one that comes or goes moves one other of its class at most.

    Raises:
        DataError: a class of fewer than two images.
    """

    def lot(name: str) -> bytes:
        return sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()

    is_test = torch.zeros(len(names), dtype=torch.bool)
    for label, name in enumerate(classes):
        members = (both.labels == label).nonzero().flatten().tolist()
        if len(members) < 2:
            what = f"class {name!r}" if name != UNLABELLED else "holds no class folders, and"
            raise DataError(f"{where}: {what} has {len(members)} readable images; a split needs two or more")
        count = min(max(1, round(len(members) * share)), len(members) - 1)
        is_test[sorted(members, key=lambda index: lot(names[index]))[:count]] = True
    return is_test


def parts_of(root: Path, where: str) -> dict[Part, Path]:
    """The folders of `root` that are parts; none where it holds the classes."""
    return find_parts(class_folders(root), where, lambda folder: [each.name for each in class_folders(folder)])


def list_parts(
    parts: Mapping[Part, Path], images: ImageList, where: str
) -> tuple[dict[Path, tuple[list[Path], list[int]]], tuple[str, ...]]:
    """Files and labels of the folders for training and testing, and the classes; others are left out, and told.

    Images for validation are tested on where there are none for testing.

    Raises:
        DataError: as `ImageList.of_classes`, or there is nothing to test on.
    """
    root = parts["train"].parent
    test = test_part(parts, where)
    for folder in class_folders(root):
        if folder not in (parts["train"], test):
            reason = "beside the parts"
            if folder in parts.values():
                reason = f"of the part {folder.name}, as {test.name} is tested on,"
            if class_folders(test) and folder in parts.values() and not class_folders(folder):
                reason = f"of the part {folder.name}, which holds no class folders,"
            images.leave_out_below(reason, folder)
    train, classes = labelled(parts["train"], images)
    if classes != (UNLABELLED,):
        return {parts["train"]: train, test: images.of_classes(test, classes)}, classes
    files = images.below(test)
    if not files:
        raise DataError(f"{where}: {test} holds no images ({', '.join(sorted(SUFFIXES))})")
    return {parts["train"]: train, test: (files, [0] * len(files))}, classes


def labelled(root: Path, images: ImageList) -> tuple[tuple[list[Path], list[int]], tuple[str, ...]]:
    """The images of the class folders of `root`, or those in it where there are no class folders."""
    classes = tuple(folder.name for folder in class_folders(root))
    if not classes and (files := images.inside(root)):
        return (files, [0] * len(files)), (UNLABELLED,)
    return images.of_classes(root, classes), classes


def test_part(parts: Mapping[Part, Path], where: str) -> Path:
    """The folder of the images to test on: of two the first that holds class folders as that for training does.

    Raises:
        DataError: there is none.
    """
    usual: tuple[Part, ...] = ("test", "validation")
    folders = [parts[part] for part in usual if part in parts]
    if class_folders(parts["train"]):
        folders = [folder for folder in folders if class_folders(folder)] or folders
    if folders:
        return folders[0]
    raise DataError(
        f"{where}: there is {parts['train']} but neither test nor val beside it holds class folders; name one so, or "
        f"give {parts['train']} itself, of which a share becomes the test set"
    )


def _require_no_wrapper(root: Path, where: str) -> None:
    """Refuse a folder whose only folder holds the classes: read as one class they would all be alike."""
    folders = class_folders(root)
    if len(folders) == 1 and len(inner := class_folders(folders[0])) > 1:
        raise DataError(
            f"{where}: {folders[0]} is the only folder in it and holds {len(inner)} folders itself, such as "
            f"{inner[0].name}; if those are the classes or parts set --data.root {folders[0]}"
        )
