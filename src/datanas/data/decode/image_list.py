"""Which files of a folder are its images, and what is passed over: counted by reason, and told in one line.

Names that tools keep to themselves are passed over at any depth. Links are followed, to files and to folders, and a
folder that a link leads back to is read once.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from datanas.core.errors import DataError
from datanas.core.paths import folder_entries, path_errors
from datanas.data.decode.parts import parts_in

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".pbm"}
)
_OTHER_IMAGES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".psd", ".svg", ".ico", ".tga", ".exr", ".hdr", ".dcm"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"}
)
_NO_IMAGES = frozenset(
    {".txt", ".csv", ".json", ".xml", ".md", ".yaml", ".yml", ".npy", ".npz", ".zip", ".html", ".pdf"}
)
"""Of common company of images; what else is not known is asked for its first bytes."""
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"P5\n", b"P6\n")
_BRANDS = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
_HIDDEN = frozenset(
    {"__macosx", "@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "system volume information"}
    | {"lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__"}
)
_log = logging.getLogger(__name__)


def is_hidden(name: str) -> bool:
    """Whether a name is kept by a tool or system for itself: `.ipynb_checkpoints`, `@eaDir`, `__MACOSX`, `._1.jpg`."""
    return name.startswith(".") or name.lower() in _HIDDEN


def class_folders(root: Path) -> list[Path]:
    """The folders in `root` that stand for classes, in alphabetical order."""
    return [path for path in folder_entries(root, DataError) if not is_hidden(path.name) and path.is_dir()]


def list_images(root: Path, classes: tuple[str, ...], where: str) -> tuple[list[Path], list[int]]:
    """As `ImageList.of_classes`, and tells what was left out."""
    images = ImageList(where)
    listed = images.of_classes(root, classes)
    images.tell()
    return listed


class ImageList:
    """Lists images below folders and remembers what it leaves out.

    Args:
        where: the data set and its source, to begin messages with.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._left_out: dict[str, list[Path]] = {}

    def of_classes(self, root: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[int]]:
        """The image files below the class folders of `root`, class by class, and their labels.

        Raises:
            DataError: no class folders, one that `classes` does not know, one without images, or parts inside classes.
        """
        folders = class_folders(root)
        if not folders:
            raise DataError(f"{self._where}: {root} holds no class folders; expected {root / 'CLASS' / 'image.png'}")
        for file in self._directly_in(root):
            self.leave_out("beside the class folders", file)
        self._require_no_parts_in(folders)
        files: list[Path] = []
        labels: list[int] = []
        for folder in folders:
            if folder.name not in classes:
                raise DataError(f"{self._where}: {folder} is a class without training images")
            in_folder = self.below(folder)
            if not in_folder:
                left_out = f"; {self._told()}" if self._left_out else ""
                raise DataError(f"{self._where}: {folder} holds no images ({', '.join(sorted(SUFFIXES))}){left_out}")
            files += in_folder
            labels += [classes.index(folder.name)] * len(in_folder)
        return files, labels

    def below(self, root: Path) -> list[Path]:
        """All image files below a folder, in the order of their paths."""
        files: list[Path] = []
        seen = {_identity(root)}
        waiting = [root]
        while waiting:
            for entry in folder_entries(waiting.pop(), DataError):
                if is_hidden(entry.name):
                    self._count_hidden(entry)
                elif entry.is_dir():
                    if (identity := _identity(entry)) in seen:
                        self.leave_out("behind links to a folder that was read already", entry)
                    else:
                        seen.add(identity)
                        waiting.append(entry)
                elif self._takes(entry):
                    files.append(entry)
        return sorted(files)

    def inside(self, folder: Path) -> list[Path]:
        """The image files that lie in a folder itself, in the order of their names; deeper ones are left out."""
        for deeper in class_folders(folder):
            for file in _images_below(deeper):
                self.leave_out("in deeper folders", file)
        for entry in folder_entries(folder, DataError):
            if is_hidden(entry.name):
                self._count_hidden(entry)
        return self._directly_in(folder)

    def leave_out(self, reason: str, file: Path) -> None:
        """Remember an image that is not taken, and why."""
        self._left_out.setdefault(reason, []).append(file)

    def leave_out_below(self, reason: str, folder: Path) -> None:
        """The same for all images below a folder."""
        for file in _images_below(folder):
            self.leave_out(reason, file)

    def tell(self) -> None:
        """Say in one line how many images were left out, and why; nothing where none was."""
        if self._left_out:
            _log.warning("%s: %s", self._where, self._told())

    def _told(self) -> str:
        count = sum(map(len, self._left_out.values()))
        reasons = [f"{len(files)} {reason} ({files[0]})" for reason, files in self._left_out.items()]
        return f"left out {count} image{'s' * (count != 1)}: {', '.join(reasons)}"

    def _directly_in(self, folder: Path) -> list[Path]:
        entries = [entry for entry in folder_entries(folder, DataError) if not is_hidden(entry.name)]
        return [entry for entry in entries if not entry.is_dir() and self._takes(entry)]

    def _takes(self, file: Path) -> bool:
        """Whether a file is an image by its name; one that only looks like an image is left out."""
        suffix = file.suffix.lower()
        if suffix in SUFFIXES:
            if file.is_file():
                return True
            self.leave_out("links that lead nowhere" if file.is_symlink() else "no plain files", file)
        elif suffix in _OTHER_IMAGES or (suffix not in _NO_IMAGES and file.is_file() and _begins_as_image(file)):
            self.leave_out(f"of the kind {suffix}, which is not read," if suffix else "without a suffix", file)
        return False

    def _count_hidden(self, entry: Path) -> None:
        files = _images_below(entry) if entry.is_dir() else [entry] * (entry.suffix.lower() in SUFFIXES)
        for file in files:
            self.leave_out("in hidden folders" if entry.is_dir() else "with hidden names", file)

    def _require_no_parts_in(self, folders: list[Path]) -> None:
        """Refuse CLASS/train/* and CLASS/test/*: read as one class they would lose the split that somebody made."""
        inner = [{part for deeper in class_folders(folder) for part in parts_in(deeper.name)} for folder in folders]
        if all(len(parts) > 1 for parts in inner):
            first = folders[0]
            raise DataError(
                f"{self._where}: every class folder, such as {first}, holds folders of parts itself; put the parts "
                f"first: {first.parent / 'train' / first.name} and {first.parent / 'test' / first.name}"
            )
        names = [tuple(deeper.name for deeper in class_folders(folder)) for folder in folders]
        if len(folders) > 1 and len(names[0]) > 1 and len(set(names)) == 1:
            _log.warning(
                "%s: the classes %s hold the same folders (%s); if they are parts, call them train and test",
                *(self._where, ", ".join(folder.name for folder in folders), ", ".join(names[0])),
            )


def _identity(folder: Path) -> tuple[int, int]:
    with path_errors(folder, DataError):
        status = folder.stat()
    return status.st_dev, status.st_ino


def _images_below(folder: Path) -> list[Path]:
    """For counting alone: links are not followed, hidden names are not asked for, what cannot be read is nothing."""
    return [
        Path(inside) / name
        for inside, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]


def _begins_as_image(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            beginning = stream.read(12)
    except OSError:
        return False
    is_webp = beginning[:4] == b"RIFF" and beginning[8:] == b"WEBP"
    return beginning.startswith(_BEGINNINGS) or beginning[4:] in _BRANDS or is_webp
