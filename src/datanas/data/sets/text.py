"""Any text in three files, loose in a folder or in a .zip archive, or in a single one."""

from __future__ import annotations

import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import folder_entries, is_file, read_bytes, require_folder, shown
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.decode.image_list import is_hidden
from datanas.data.decode.memory import require_memory
from datanas.data.decode.parts import Part, parts_in, words_of
from datanas.data.types.corpus import SPLITS, Source, Split, TextData, encode

_log = logging.getLogger(__name__)
SUFFIXES = (".txt", ".tokens")
_USUAL = frozenset({"train", "valid", "val", "validation", "dev", "test"})
"""Words for parts that are taken before others, such as `training`, where both are there."""
_SPLITS: dict[Part, Split] = {"train": "train", "validation": "valid", "test": "test"}
# The bytes, the decoded text, its lines, and eight bytes a word in up to three copies.
_MEMORY_A_BYTE = 8


@register_dataset("text")
class Text(Dataset[TextData]):
    """Files of words between blanks, a sentence a line, that name their part: `train.txt`, `ptb.valid.txt`,
    `wiki.test.tokens`, in any case and usual spelling (`parts_in`).

    They lie in the folder `root`, in the only folder in it, or anywhere in the .zip `root`, which is not unpacked. Of a
    single file of text its first lines are for training, a tenth behind them for validation, and the last tenth for
    testing.
    """

    class Config(ComponentConfig):
        name: Literal["text"] = "text"
        root: Path = Field(description="the folder of the three files, a .zip file of them, or a single .txt file")
        train: str | None = Field(default=None, description="the training file in root; unset: the one so named")
        valid: str | None = Field(default=None, description="the validation file in root; unset: the one so named")
        test: str | None = Field(default=None, description="the test file in root; unset: the one so named")
        max_vocabulary: int | None = Field(
            default=None, ge=3, description="words at most, <eos> and <unk> among them; rarer ones become <unk>"
        )

    config: Config

    def load(self) -> TextData:
        config = self.config
        if config.root.suffix.lower() in SUFFIXES and is_file(config.root, DataError):
            _require_whole(config)
            return encode(_parted(config.root), max_vocabulary=config.max_vocabulary)
        shelf = open_shelf(config.root, "text")
        names = {split: _chosen(shelf, split, getattr(config, split)) or _only(shelf, split) for split in SPLITS}
        return encode(_read(shelf, names), max_vocabulary=config.max_vocabulary)


def _require_whole(config: Text.Config) -> None:
    """Refuse a single file that is one of three parts; say so where it may be.

    Raises:
        DataError: it is named for another part than training, or settings choose files in it.
    """
    where, part = f"text {shown(config.root)}", _split_of(config.root.name)
    if chosen := [split for split in SPLITS if getattr(config, split) is not None]:
        raise DataError(
            f"{where}: data.{chosen[0]} names a file in a folder, and root is a single file; give its folder"
        )
    if part in ("valid", "test"):
        raise DataError(
            f"{where}: is by its name the {part} text alone; give the folder of train.txt, valid.txt and test.txt, or "
            "call it otherwise to part it into these"
        )
    beside = [path.name for path in _files(config.root.parent) if _split_of(path.name) in ("valid", "test")]
    if part == "train" and beside:
        _log.warning(
            "%s: is parted into training, validation and test text; %s beside it is not read, give the folder for that",
            where,
            _list(sorted(beside)),
        )


def _parted(file: Path) -> dict[Split, Source]:
    """The three parts of a single file, by whole lines.

    Raises:
        DataError: it has fewer than ten lines.
    """
    where = f"text {shown(file)}"
    require_memory(file.stat().st_size * _MEMORY_A_BYTE, f"{where}: its words", "give a smaller text")
    lines = read_bytes(file, DataError).splitlines(keepends=True)
    if len(lines) < 10:
        raise DataError(
            f"{where}: {len(lines)} lines are too few to part into training, validation and test text; write a "
            "sentence a line, or give a folder of train.txt, valid.txt and test.txt"
        )
    first, second = len(lines) * 8 // 10, len(lines) * 9 // 10
    parts = (lines[:first], lines[first:second], lines[second:])
    return {split: Source(where, b"".join(part)) for split, part in zip(SPLITS, parts, strict=True)}


class Shelf(ABC):
    """Files that can be read by name.

    Attributes:
        where: the data set and the place, to begin messages with.
        names: the files to choose from.
    """

    where: str
    names: Sequence[str]

    @abstractmethod
    def where_is(self, name: str) -> str:
        """The data set and the file."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """The bytes of a file; None if there is no such file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole of a file.

        Raises:
            DataError: it cannot be read.
        """

    def texts(self, split: Split) -> list[str]:
        """The files that are named for this part and no other."""
        return [name for name in self.names if _split_of(name) == split]

    @property
    def holds_texts(self) -> bool:
        return any(map(_split_of, self.names))


class _Folder(Shelf):
    """The files of a folder, or of the only folder in it if there are no texts beside that."""

    def __init__(self, root: Path, dataset: str) -> None:
        require_folder(root, DataError, f"{dataset} {shown(root)}")
        files = _files(root)
        folders = [path for path in folder_entries(root, DataError) if path.is_dir() and not is_hidden(path.name)]
        if len(folders) == 1 and not any(_split_of(file.name) for file in files):
            files += _files(folders[0])
        self._root, self._dataset = root, dataset
        self.where = f"{dataset} {root}"
        self.names = sorted(file.relative_to(root).as_posix() for file in files)

    def where_is(self, name: str) -> str:
        return f"{self._dataset} {self._root / name}"

    def size(self, name: str) -> int | None:
        file = self._root / name
        return file.stat().st_size if is_file(file, DataError) else None

    def read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.where_is(name)}: {error.strerror or error}") from None


class _Archive(Shelf):
    """The members of a .zip archive, read one by one."""

    def __init__(self, root: Path, dataset: str) -> None:
        self.where = f"{dataset} {root}"
        try:
            with zipfile.ZipFile(root) as archive:
                self._members = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
        except Exception as error:  # a damaged directory of an archive fails in more ways than BadZipFile
            other = "" if root.suffix.lower() in SUFFIXES else "; unpack any other archive"
            raise DataError(
                f"{self.where}: neither a folder nor a .zip archive ({error}); give the folder of three files, such as "
                f"train.txt, valid.txt and test.txt, or a .zip archive of them{other}"
            ) from None
        self._root = root
        self.names = sorted(name for name in self._members if not any(map(is_hidden, PurePosixPath(name).parts)))

    def where_is(self, name: str) -> str:
        return f"{self.where}: {name}"

    def size(self, name: str) -> int | None:
        return self._members[name].file_size if name in self._members else None

    def read(self, name: str) -> bytes:
        if self._members[name].flag_bits & 1:
            raise DataError(f"{self.where_is(name)}: is encrypted; unpack the archive and give the folder")
        try:
            with zipfile.ZipFile(self._root) as archive:
                return archive.read(name)
        except Exception as error:  # a damaged member can fail in any layer: zip, the checksum, the decompressor
            raise DataError(f"{self.where_is(name)}: cannot be read ({error})") from None


def open_shelf(root: Path, dataset: str) -> Shelf:
    """The files of a folder or of a .zip archive.

    Raises:
        DataError: there is nothing at `root`, or something else.
    """
    if is_file(root, DataError):
        return _Archive(root, dataset)
    if root.exists() or root.is_symlink():
        return _Folder(root, dataset)
    raise DataError(f"{dataset} {shown(root)}: no such file or folder")


def read_published(
    dataset: str, root: Path, locations: Sequence[str], files: Mapping[Split, str], words: int
) -> TextData:
    """Read a published text from wherever users keep it.

    Args:
        places: folders and archives below `root`, in the order in which they are tried after `root` itself.
        files: the published file names; where they are absent, those that `data.name: text` would read.
        words: the size of its vocabulary.

    Raises:
        DataError: it is not there, is broken, or has another vocabulary.
    """
    tried = [root, *(root / location for location in locations)]
    for path in tried:
        if path == root or path.exists():
            shelf = open_shelf(path, dataset)
            if shelf.holds_texts:
                break
    else:
        raise DataError(f"{dataset}: no text found; looked for {files['train']} in {', '.join(map(str, tried))}")
    names = {split: _published(shelf, files[split]) or _only(shelf, split) for split in SPLITS}
    data = encode(_read(shelf, names))
    if len(data.vocabulary) != words:
        raise DataError(
            f"{shelf.where}: the vocabulary has {len(data.vocabulary):,} words but that of the published text "
            f"{words:,}; for another text set --data.name text"
        )
    return data


def _read(shelf: Shelf, names: Mapping[Split, str]) -> dict[Split, Source]:
    size = sum(shelf.size(name) or 0 for name in names.values())
    require_memory(size * _MEMORY_A_BYTE, f"{shelf.where}: its words", "give a smaller text")
    return {split: Source(shelf.where_is(name), shelf.read(name)) for split, name in names.items()}


def _published(shelf: Shelf, file: str) -> str | None:
    """The one file of this name, wherever it lies."""
    matches = [name for name in shelf.names if PurePosixPath(name).name == file]
    return matches[0] if len(matches) == 1 else None


def _chosen(shelf: Shelf, split: Split, file: str | None) -> str | None:
    """The file that the settings choose, by its path in the shelf."""
    if file is not None and shelf.size(file) is None:
        raise DataError(f"{shelf.where}: no file {file} (data.{split}); found {_list(shelf.names)}")
    return file


def _only(shelf: Shelf, split: Split) -> str:
    """The one file that is named for this part."""
    choice = f"--data.name text --data.{split} FILE"
    match shelf.texts(split):
        case [name]:
            return name
        case []:
            raise DataError(
                f"{shelf.where}: no {split} text; found {_list(shelf.names)}; "
                f"expected a file such as {split}.txt or name.{split}.tokens, or {choice}"
            )
        case several:
            plain = [name for name in several if not _USUAL.isdisjoint(words_of(PurePosixPath(name).stem))]
            if len(plain) == 1:
                others = _list([name for name in several if name != plain[0]])
                _log.warning("%s: read %s as the %s text, not %s", shelf.where, plain[0], split, others)
                return plain[0]
            raise DataError(f"{shelf.where}: several {split} texts: {_list(several)}; choose one by {choice}")


def _list(names: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "no files") + more


def _split_of(name: str) -> Split | None:
    """The part that a file is named for; None if it is no text, or its name tells of no part or of two."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES:
        return None
    named = parts_in(path.stem)
    return _SPLITS[named.pop()] if len(named) == 1 else None


def _files(folder: Path) -> list[Path]:
    return [path for path in folder_entries(folder, DataError) if path.is_file() and not is_hidden(path.name)]
