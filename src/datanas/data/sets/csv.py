"""A table of image paths and their classes, as a .csv or .tsv file."""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from datanas.core.errors import DataError
from datanas.core.paths import read_text, require_file, shown
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images
from datanas.data.decode.depth import settle_white
from datanas.data.decode.image_list import SUFFIXES
from datanas.data.decode.image_sides import sizes_of
from datanas.data.decode.images import decode
from datanas.data.decode.parts import part_of
from datanas.data.decode.suspect import examine_set, tell_suspects
from datanas.data.groups import USE_GROUPS, numbered, tell_shared_groups
from datanas.data.sets.folder import FolderConfig, split_by_name
from datanas.data.types.targets import TARGETS, Kind, TargetData, TargetKind, parted, target_data

_PATHS = ("path", "file", "filename", "filepath", "file_name", "image", "image_path", "img", "id")
_LABELS = ("label", "class", "target", "category", "y", "labels", "class_name")
_PARTS = ("split", "part", "set", "subset", "fold")
_GROUPS = ("group", "groups", "group_id")
_log = logging.getLogger(__name__)
_PARTING = re.compile(r"[;|]")
_LOOKED_AT = 50  # rows by which a column is told


@register_dataset("csv")
class Csv(Dataset[ImageData | TargetData]):
    """One row an image: its path, from the table's folder on, and its class; a column of parts where there is one.

    The columns are found by their names (`path` and `label`, or others as usual), or else as the one that holds image
    files and the other one. A class may be several labels, `dog;beach`, or a number (`targets`). Rows of a part for
    validation are tested on where none are for testing. Rows of one group, such as pictures of the same patient, are on
    one side of every split; a column named `group` says which belong together, or any that `group_column` names.
    """

    class Config(FolderConfig):
        name: Literal["csv"] = "csv"
        root: Path = Field(description="the .csv or .tsv file")
        path_column: str | None = Field(default=None, description="unset: by its name, or the one that holds files")
        label_column: str | None = Field(default=None, description="unset: by its name, or the only other one")
        group_column: str | None = Field(
            default=None, description="what belongs together and is never split; unset: a column named group, if any"
        )
        use_groups: bool = Field(default=True, description=USE_GROUPS)
        targets: TargetKind = Field(default="auto", description=TARGETS)

    config: Config

    def image_sizes(self) -> list[tuple[int, int]]:
        return sizes_of(self._table(f"csv {shown(self.config.root)}").files)

    def _table(self, where: str) -> _Table:
        rows = _read(self.config.root, where)
        config = self.config
        return _Table(rows, config.root.parent, where, config.path_column, config.label_column, config.group_column)

    def target_kind(self) -> Kind | None:
        return self._kind(self._table(f"csv {shown(self.config.root)}"))

    def _kind(self, table: _Table) -> Kind | None:
        if self.config.targets != "auto":
            return None if self.config.targets == "classes" else self.config.targets
        return table.kind()

    def load(self) -> ImageData | TargetData:
        config = self.config
        where = f"csv {shown(config.root)}"
        require_file(config.root, DataError, where)
        table = self._table(where)
        kind = self._kind(table)
        names, rows = table.labels_held() if kind == "labels" else table.numbers() if kind else table.classes()
        form = settle_white(table.files, config.form(config.channels), where)
        images, indices = decode(table.files, where, form=form, resize=config.resize, skip_broken=config.skip_broken)
        rows, files, is_test = rows[indices], [table.names[index] for index in indices], table.is_test(indices)
        groups = table.groups[indices] if config.use_groups and table.groups is not None else None
        if is_test is None and (kind is not None or groups is not None):
            split = parted(rows, kind, config.test_share, config.split_seed, groups)
        else:
            unused = torch.zeros(len(indices), dtype=torch.bool)
            if is_test is None:
                is_test = split_by_name(
                    ImageSet(images, rows), files, names, config.test_share, config.split_seed, where
                )
            elif (unused := table.unused(indices)).any():
                _log.warning(
                    "%s: left out %d images for validation: those for testing are tested on", where, unused.sum()
                )
            split = ((~is_test & ~unused).nonzero().flatten(), (is_test & ~unused).nonzero().flatten())
        parts = [(images[each], rows[each]) for each in split]
        is_scaled = config.resize is not None
        train_groups = None if groups is None else groups[split[0]]
        if groups is not None:
            tell_shared_groups(groups[split[0]].tolist(), groups[split[1]].tolist(), where)
        if kind is not None:
            more = {"pixels": form, "is_scaled": is_scaled, "train_groups": train_groups}
            return target_data(parts[0], parts[1], names, kind, where, **more)
        train, test = (ImageSet(*each) for each in parts)
        check_images(train, test, names, where)
        examined = {
            part: examine_set(examples, names, [files[each] for each in chosen.tolist()].__getitem__)
            for part, examples, chosen in zip(("train", "test"), (train, test), split, strict=True)
        }
        tell_suspects(examined, where)
        return ImageData(train, test, names, pixels=form, is_scaled=is_scaled, train_groups=train_groups)


def _read(path: Path, where: str) -> list[list[str]]:
    text = read_text(path, DataError).removeprefix("\ufeff")
    rows: list[list[str]] = []
    for delimiter in ",\t;|":  # that which parts all rows alike
        parsed = [
            [cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)
        ]
        rows = rows or parsed
        if len({len(row) for row in parsed}) == 1 and parsed and len(parsed[0]) > 1:
            rows = parsed
            break
        if max(map(len, parsed), default=1) > max(map(len, rows), default=1):
            rows = parsed  # for the message
    widths = {len(row) for row in rows}
    if len(rows) < 2 or widths == {1}:
        raise DataError(f"{where}: expected a row an image with its path and its class, parted by commas")
    if len(widths) > 1:
        line = next(number for number, row in enumerate(rows, 1) if len(row) != len(rows[0]))
        raise DataError(f"{where}: row {line} has {len(rows[line - 1])} cells, the first has {len(rows[0])}")
    return rows


class _Table:
    """The rows of a table whose columns are known.

    Attributes:
        files, names, labels: of each row; names are as the table has them.
        groups: (n,), which rows belong together; None where the table does not say.
    """

    def __init__(
        self,
        rows: list[list[str]],
        folder: Path,
        where: str,
        path_column: str | None,
        label_column: str | None,
        group_column: str | None,
    ) -> None:
        self._where = where
        head, body = rows[0], rows[1:]
        if any(Path(cell).suffix.lower() in SUFFIXES for cell in head):
            head, body = [str(column) for column in range(len(head))], rows
        named = {name.lower(): column for column, name in enumerate(head)}
        files = self._column(head, path_column, "path_column")
        if files is None:
            holds_files = [column for column in range(len(head)) if _holds_files(body, column)]
            files = next((named[name] for name in _PATHS if named.get(name) in holds_files), None)
            if files is None and len(holds_files) == 1:
                files = holds_files[0]
        if files is None:
            raise DataError(
                f"{where}: no column of image files among {', '.join(head)}; the table needs a row an image with its "
                "path and its class (data.path_column says which), and tables of numbers are not searched"
            )
        labels = self._column(head, label_column, "label_column")
        parts = next((named[name] for name in _PARTS if name in named), None)
        groups = self._column(head, group_column, "group_column")
        if groups is None:
            groups = next((named[name] for name in _GROUPS if name in named and named[name] != labels), None)
        if labels is None:
            others = [column for column in range(len(head)) if column not in (files, parts, groups)]
            labels = next((named[name] for name in _LABELS if name in named and named[name] != files), None)
            labels = others[0] if labels is None and len(others) == 1 else labels
            if labels is None and not others and group_column is None:
                labels, groups = groups, None  # of two columns the other one is the class, whatever it is called
        if labels is None:
            raise DataError(f"{where}: which of {', '.join(head)} is the class? say it with --data.label_column NAME")
        self.names = [row[files] for row in body]
        self.files = [folder / name for name in self.names]
        self.labels = [row[labels] for row in body]
        self._parts = None if parts is None else [row[parts] for row in body]
        # What says no group stands for itself.
        self.groups = None if groups is None else numbered([row[groups] or index for index, row in enumerate(body)])
        self._target_name = head[labels]

    def _column(self, head: Sequence[str], name: str | None, setting: str) -> int | None:
        if name is None:
            return None
        if name not in head:
            raise DataError(f"{self._where}: no column {name!r} (data.{setting}); the table has {', '.join(head)}")
        return head.index(name)

    def kind(self) -> Kind | None:
        """Several labels parted by `;` or `|` in some cell, or numbers of which one has a fraction; else classes."""
        if any(_PARTING.search(label) for label in self.labels):
            return "labels"
        values = [_number(label) for label in self.labels]
        is_numeric = all(value is not None for value in values)
        return "numbers" if is_numeric and any(value != round(value) for value in values if value) else None

    def labels_held(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """The names of all labels, and which of them hold of each image: (n, k), 0 or 1. A cell may be empty."""
        held = [{name.strip() for name in _PARTING.split(label)} - {""} for label in self.labels]
        names = tuple(sorted(set().union(*held)))
        if len(names) < 2:
            raise DataError(f"{self._where}: {len(names)} labels in all; at least two are needed, parted by ;")
        return names, torch.tensor([[float(name in each) for name in names] for each in held])

    def numbers(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """The name of the column, and its numbers (n, 1)."""
        values = [_number(label) for label in self.labels]
        if None in values:
            index = values.index(None)
            raise DataError(f"{self._where}: {self.names[index]} has {self.labels[index]!r}, which is no number")
        return (self._target_name,), torch.tensor([[float(value)] for value in values if value is not None])

    def classes(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """The names of the classes, numbers in their order, words in alphabetical; and which each image is of (n,).

        Raises:
            DataError: a row without a class, or nearly every image has a class of its own.
        """
        for name, label in zip(self.names, self.labels, strict=True):
            if not label:
                raise DataError(f"{self._where}: {name} has no class; fill it in, or remove the row")
        names = sorted(set(self.labels), key=lambda name: (int(name) if name.isdecimal() else -1, name))
        if len(names) > max(2, len(self.labels) // 2):
            raise DataError(
                f"{self._where}: {len(self.labels)} images have {len(names)} different labels, such as {names[0]!r}; "
                "a class needs several images; of numbers to predict say --data.targets numbers"
            )
        return tuple(names), torch.tensor([names.index(label) for label in self.labels])

    def is_test(self, indices: Sequence[int]) -> torch.Tensor | None:
        """Which of the images that were read are for testing; None where the table does not say."""
        if self._parts is None:
            return None
        parts = [part_of(self._parts[index]) for index in indices]
        tested = "test" if "test" in parts else "validation"
        if tested not in parts or "train" not in parts:
            return None
        if None in parts:
            raise DataError(f"{self._where}: the parts must be train, validation and test, each by a usual name")
        return torch.tensor([part == tested for part in parts])

    def unused(self, indices: Sequence[int]) -> torch.Tensor:
        """Which of the images that were read are for validation where others are for testing."""
        parts = [part_of((self._parts or [])[index]) for index in indices]
        return torch.tensor([part == "validation" and "test" in parts for part in parts])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _holds_files(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column] for row in rows[:_LOOKED_AT]]
    return bool(cells) and all(Path(cell).suffix.lower() in SUFFIXES for cell in cells)
