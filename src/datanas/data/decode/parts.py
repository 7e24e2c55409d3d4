"""Which part of the data a name stands for: one table for folders, files and arrays, in any case and usual spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from datanas.core.errors import DataError

Part = Literal["train", "validation", "test"]

_PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_FILLING = ("set", "data", "dataset", "split", "image", "images", "img", "imgs", "file", "files", "sample", "samples")
"""Words beside a part's own that say nothing: a training_set, train-images, TestData2017."""
_MOST_PARTS = 3
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_JOINED = re.compile(rf"({'|'.join(_PARTS)})({'|'.join(_FILLING)})?")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, parted by signs, digits or capitals; `trainset` is train and set."""
    words: list[str] = []
    for word in _WORD.findall(name):
        joined = _JOINED.fullmatch(word.lower())
        words += [each for each in joined.groups() if each] if joined else [word.lower()]
    return words


def parts_in(name: str) -> set[Part]:
    """All parts that a name mentions: `ptb.train.txt` the training part, `train_station` too."""
    return {_PARTS[word] for word in words_of(name) if word in _PARTS}


def part_of(name: str) -> Part | None:
    """The part that a name stands for; None where it names none, several, or something else besides."""
    words, parts = words_of(name), parts_in(name)
    if len(parts) != 1 or any(word not in _PARTS and word not in _FILLING for word in words):
        return None
    return parts.pop()


def find_parts(folders: Sequence[Path], where: str, classes_in: Callable[[Path], Collection[str]]) -> dict[Part, Path]:
    """The folders that are parts of a data set; none where all are classes.

    A class may be called `test` or `train`: a folder of that name stands for a part where it holds class folders
    itself, or where every folder beside it is a part too.

    Args:
        folders: all that lie beside each other, hidden ones left out.
        where: the data set and its source, to begin a message with.
        classes_in: the names of the class folders in a folder.

    Raises:
        DataError: two folders for one part, or folders that look like parts of which some cannot be placed.
    """
    named = {folder: part for folder in folders if (part := part_of(folder.name)) is not None} or _alike(folders)
    others = [folder for folder in folders if folder not in named]
    holders = [folder for folder in named if classes_in(folder)]
    mentioned = {part for folder in folders for part in parts_in(folder.name)}
    is_each_a_part = all(parts_in(folder.name) for folder in folders)
    if not named and is_each_a_part and "train" in mentioned and len(mentioned) > 1:
        raise DataError(
            f"{where}: {_names(folders)} look like parts of the data, but which is which cannot be told; call them "
            "train and test (and val), or give a folder of classes alone"
        )
    if not named or (not holders and (others or len(set(named.values())) < 2)):
        return {}
    if "train" not in named.values():
        shared = {name for folder in named for name in classes_in(folder)}
        if len(others) > _MOST_PARTS - 1 or not all(shared.intersection(classes_in(folder)) for folder in others):
            return {}
        raise DataError(
            f"{where}: {_names(named)} looks like a part of the data, but no folder beside it is named for training; "
            f"call one {folders[0].parent / 'train'}, or give a folder of classes alone"
        )
    parts: dict[Part, Path] = {}
    for folder, part in named.items():
        if part in parts:
            raise DataError(
                f"{where}: {parts[part].name} and {folder.name} both look like the part {part!r}; rename or move one"
            )
        parts[part] = folder
    return parts


def _alike(folders: Sequence[Path]) -> dict[Path, Part]:
    """Folders that differ in the part alone that each mentions: seg_train and seg_test."""
    mentioned = {folder: parts_in(folder.name) for folder in folders}
    rests = {tuple(word for word in words_of(folder.name) if word not in _PARTS) for folder in folders}
    if len(rests) != 1 or any(len(parts) != 1 for parts in mentioned.values()):
        return {}
    part_by_folder = {folder: next(iter(parts)) for folder, parts in mentioned.items()}
    return part_by_folder if len(set(part_by_folder.values())) > 1 else {}


def _names(folders: Iterable[Path]) -> str:
    return " and ".join(folder.name for folder in folders)
