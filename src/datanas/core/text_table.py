"""Tables of words and numbers as text: in columns for the terminal, or in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence

Rows = Sequence[Sequence[str]]
"""A header and lines of as many cells."""


def plain_table(rows: Rows, left: Collection[int] = (0,)) -> str:
    """In columns that are two spaces apart.

    >>> print(plain_table([["name", "macs"], ["gdas", "519.3 M"]]))
    name     macs
    gdas  519.3 M

    Args:
        left: the columns that begin at the left; in the others numbers end at the right.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(rows: Rows, right: Collection[int] = ()) -> str:
    """In Markdown, ended by a line break.

    Args:
        right: the columns that are set to the right.
    """
    head, *body = rows
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))
