"""Text forms that plugins give to the cells of their spaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from datanas.codes.cell import Cell
from datanas.core.errors import ConfigError


@dataclass(frozen=True)
class TextForm:
    """How the cells of a space are written in a line.

    Attributes:
        space: its name.
        beginning: what such a text begins with, and no other does, such as "chain: ".
        read: the cells of a text; raises an ArchitectureError for one that is none.
        write: the text of the cells; `read` gives them back, and writes the same again.
        groups: the names of the cells.
    """

    space: str
    beginning: str
    read: Callable[[str], Mapping[str, Cell]]
    write: Callable[[Mapping[str, Cell]], str]
    groups: frozenset[str]


_forms: dict[str, TextForm] = {}
_TAKEN = ("Genotype", "{", "[", "|", "mobile: ", *map(str, range(10)))


def register_text_form(form: TextForm) -> None:
    """Let `Architecture.from_genotype`, `to_genotype` and every command read and write this form.

    Raises:
        ConfigError: texts of a form that is known begin so, or its cells are those of another.
    """
    others = [other for name, other in _forms.items() if name != form.space]
    beginnings = (*_TAKEN, *(other.beginning for other in others))
    if not form.beginning or any(form.beginning.startswith(b) or b.startswith(form.beginning) for b in beginnings):
        raise ConfigError(
            f"text form of {form.space}: another form begins with {form.beginning!r}; take another beginning"
        )
    if any(form.groups == other.groups for other in others):
        raise ConfigError(f"text form of {form.space}: another form is of the cells {', '.join(sorted(form.groups))}")
    _forms[form.space] = form


def form_of_text(text: str) -> TextForm | None:
    """The registered form that a text begins as."""
    return next((form for form in _forms.values() if text.lstrip().startswith(form.beginning)), None)


def form_of_cells(names: frozenset[str]) -> TextForm | None:
    """The registered form of cells of these names."""
    return next((form for form in _forms.values() if form.groups == names), None)
