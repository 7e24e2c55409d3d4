"""What a task shows of a trained network besides its figures, as plain data that a run folder holds and a report draws.

Tasks make exhibits (`Task.evaluate_fully`), the engine writes them, reports know the four kinds and no task.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

FORMATS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}
"""How the files of pictures begin, and what they are."""


@dataclass(frozen=True)
class Confusion:
    """How often examples of each class were taken for each.

    Attributes:
        classes: their names.
        counts: (classes, classes), a row for each true class.
    """

    kind: ClassVar[str] = "confusion"
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        _require(len(self.classes) > 0, "a confusion matrix has no classes")
        _require(
            len(self.counts) == len(self.classes) and all(len(row) == len(self.classes) for row in self.counts),
            f"a confusion matrix of {len(self.classes)} classes has other rows or columns",
        )
        _require(all(type(n) is int and n >= 0 for row in self.counts for n in row), "a count is no whole number")


@dataclass(frozen=True)
class FigureTable:
    """A table of figures.

    Attributes:
        columns: heads, the first of what a row is called.
        rows: as many entries each: a name, then numbers, shares in 0..1 where `shares` names the column.
        shares: columns that are shown in per cent.
        note: what the columns are, for people who do not know the terms.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    shares: Sequence[str] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            _require(len(row) == len(self.columns), f"a row of {self.title!r} has {len(row)} entries")
            _require(
                all(isinstance(each, str | int | float | None) for each in row), f"{self.title!r} holds no figures"
            )


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        content: a PNG or JPEG file in base64.
        caption: a line below it.
        alt: what is seen, for who does not see it.
    """

    content: str
    caption: str
    alt: str

    def __post_init__(self) -> None:
        self.format()  # what is no picture is refused

    @classmethod
    def of_file(cls, content: bytes, caption: str, alt: str) -> Picture:
        return cls(base64.b64encode(content).decode(), caption, alt)

    def format(self) -> str:
        """Whether it is a "png" or a "jpeg".

        Raises:
            ValueError: neither.
        """
        try:
            start = base64.b64decode(self.content, validate=True)[:4]
        except (binascii.Error, ValueError):
            start = b""
        picture_format = next((name for first, name in FORMATS.items() if start.startswith(first)), None)
        _require(picture_format is not None, "a picture is neither PNG nor JPEG in base64")
        assert picture_format is not None
        return picture_format


@dataclass(frozen=True)
class Pictures:
    """Pictures of one kind, the most telling first.

    Attributes:
        note: how they were chosen.
        legend: names of colours in them, with the colours ("#rrggbb").
    """

    kind: ClassVar[str] = "pictures"
    title: str
    pictures: Sequence[Picture]
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        for _, colour in self.legend:
            _require(re.fullmatch("#[0-9a-f]{6}", colour) is not None, f"a colour of a legend is none: {colour!r}")


@dataclass(frozen=True)
class Passage:
    """A text that was given, and what the network made of it."""

    given: str
    made: str


@dataclass(frozen=True)
class Passages:
    """Texts and what was made of them; `note` says how."""

    kind: ClassVar[str] = "passages"
    title: str
    passages: Sequence[Passage]
    note: str = ""


Exhibit: TypeAlias = Confusion | FigureTable | Pictures | Passages


def exhibit_to_json(exhibit: Exhibit) -> dict[str, Any]:
    """Plain data that `exhibit_from_json` reads back."""
    return {"kind": exhibit.kind, **asdict(exhibit)}


def exhibit_from_json(data: object) -> Exhibit:
    """What `exhibit_to_json` gave.

    Raises:
        ValueError: it is something else, or of a kind that this version does not know.
    """
    _require(isinstance(data, Mapping), "an exhibit is no object")
    assert isinstance(data, Mapping)
    fields = dict(data)
    kind = fields.pop("kind", None)
    try:
        if kind == Confusion.kind:
            return Confusion(**fields)
        if kind == FigureTable.kind:
            return FigureTable(**fields)
        if kind == Pictures.kind:
            legend = [(name, colour) for name, colour in fields.get("legend", ())]
            pictures = [Picture(**each) for each in fields["pictures"]]
            return Pictures(**{**fields, "pictures": pictures, "legend": legend})
        if kind == Passages.kind:
            return Passages(**{**fields, "passages": [Passage(**each) for each in fields["passages"]]})
    except (TypeError, KeyError) as error:
        raise ValueError(f"an exhibit of kind {kind!r} cannot be read: {error}") from None
    raise ValueError(f"an exhibit is of a kind that this version does not know: {kind!r}")


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(fault)
