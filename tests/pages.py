"""The pages of the documentation as tests read them: their tables, and their text on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Shown:
    """A number as a page shows it."""

    value: float
    digits: int

    @classmethod
    def of(cls, text: str) -> Shown:
        plain = text.replace(",", "")
        return cls(float(plain), len(plain.partition(".")[2]))

    def is_rounded(self, exact: float, *, given: int | None = None, times: int = 1) -> bool:
        """Whether it is `exact` at its own digits.

        Args:
            given: digits of the numbers that `exact` is a mean of, where these were rounded themselves: what that
                comes to in a mean of five or more is mostly below a quarter of what it is in each.
            times: by how much more it depends on them than a mean does.
        """
        slack = 0.0 if given is None else times * 0.125 * 10.0**-given
        return abs(self.value - exact) <= 0.5 * 10.0**-self.digits + slack + 1e-9


@dataclass(frozen=True)
class Table:
    """A table of a page: its heads, and the rows of entries by their first entry."""

    page: str
    heads: Sequence[str]
    rows: Mapping[str, Sequence[str]]

    def column(self, head: str, rows: Sequence[str]) -> list[float]:
        return [numbers(self.rows[row][self.heads.index(head)])[0].value for row in rows]

    def entry(self, row: str, head: str) -> list[Shown]:
        return numbers(self.rows[row][self.heads.index(head)])


def numbers(text: str) -> list[Shown]:
    """All numbers of a text, in order."""
    return [Shown.of(found) for found in _NUMBER.findall(text)]


@cache
def text(page: str) -> str:
    """A page on one line, without the stars of bold and slanted words."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8").replace("*", ""))


def pages() -> list[str]:
    """README and the pages of docs/."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@cache
def tables(page: str) -> Sequence[Table]:
    """The tables of a page, in order; a row that is named as one before it has its number behind its name."""
    return [_table(page, rows) for rows in _runs((ROOT / page).read_text(encoding="utf-8")) if len(rows) > 2]


def table(page: str, *heads: str) -> Table:
    """The only table of a page with these heads."""
    (found,) = [each for each in tables(page) if set(heads) <= set(each.heads)]
    return found


def _runs(content: str) -> Iterator[list[list[str]]]:
    rows: list[list[str]] = []
    for line in [*content.splitlines(), ""]:
        if line.strip().startswith("|"):
            rows.append([entry.strip().replace("*", "") for entry in line.strip().strip("|").split("|")])
        elif rows:
            yield rows
            rows = []


def _table(page: str, rows: list[list[str]]) -> Table:
    found: dict[str, Sequence[str]] = {}
    for row in rows[2:]:
        name = row[0] if row[0] not in found else f"{row[0]} {len(found)}"
        found[name] = row
    return Table(page, rows[0], found)
