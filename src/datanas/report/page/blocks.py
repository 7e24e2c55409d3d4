"""What a page consists of: parts of sections of blocks. What they look like is the template's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from datanas.core.exhibits import Passages

Spec: TypeAlias = Mapping[str, Any]
"""A chart as Vega-Lite describes it."""


@dataclass(frozen=True)
class Prose:
    """Paragraphs; those in `notes` explain a term and are set smaller, those in `warnings` stand out."""

    kind: ClassVar[str] = "prose"
    paragraphs: Sequence[str] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Lacking:
    """What cannot be shown, and what would make it."""

    kind: ClassVar[str] = "lacking"
    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Value:
    """An entry of a table: as it is shown, and by what it is sorted where that is not the text."""

    text: str
    key: float | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by any column."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Chart:
    """A chart; `alt` says what it shows for who does not see it, `caption` what to look at."""

    kind: ClassVar[str] = "chart"
    title: str
    spec: Spec
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """Pictures of cells as SVG, each with its alternative text inside."""

    kind: ClassVar[str] = "drawing"
    svgs: Sequence[str]
    caption: str = ""
    words: str = ""


@dataclass(frozen=True)
class Frame:
    """What a stepper shows at an epoch: a table of numbers for each of its charts, drawings, and a line about them."""

    tables: Sequence[Sequence[Sequence[float]]]
    svgs: Sequence[str]
    said: str


@dataclass(frozen=True)
class Stepper:
    """Charts and drawings that a slider moves through the epochs.

    Attributes:
        charts: heat maps whose data source `cells` holds a row for each (edge, operation).
        frames: in order of their epochs.
        marks: for each frame and chart the (edge, operation) pairs that are kept.
    """

    kind: ClassVar[str] = "stepper"
    name: str
    charts: Sequence[Chart]
    frames: Sequence[Frame]
    marks: Sequence[Sequence[Sequence[tuple[int, int]]]] = ()


@dataclass(frozen=True)
class Tile:
    """A picture of a gallery, as the address of its data."""

    source: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Small pictures; wide ones stand one in a row."""

    kind: ClassVar[str] = "gallery"
    title: str
    tiles: Sequence[Tile]
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()
    is_wide: bool = False


@dataclass(frozen=True)
class Code:
    """Lines for a terminal or of a file; of `folded` ones the page shows the title first."""

    kind: ClassVar[str] = "code"
    title: str
    text: str
    folded: bool = False


Block: TypeAlias = Prose | Lacking | Facts | Table | Chart | Drawing | Stepper | Gallery | Passages | Code


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Part:
    """All of one run, or what several have in common.

    Attributes:
        anchor: by which the page links to it.
        lead: a line below the heading.
    """

    anchor: str
    title: str
    lead: str
    sections: Sequence[Section] = field(default_factory=tuple)
