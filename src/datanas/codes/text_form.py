"""The interface of text forms, and those that plugins give to the cells of their spaces."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from datanas.codes.cell import Cell
from datanas.core.errors import ConfigError


class Form(ABC):
    """How architectures of one kind are written."""

    @abstractmethod
    def holds(self, text: str) -> bool:
        """Whether a text has such an architecture in it, be it a whole one or the beginning of one."""

    @abstractmethod
    def fits(self, groups: frozenset[str]) -> bool:
        """Whether cells of these names are written so."""

    @abstractmethod
    def parse(self, text: str, primitives: Sequence[str] | None) -> tuple[str, dict[str, Cell]]:
        """The space and the cells of a text that `holds` one.

        Args:
            text: of several architectures the last whole one counts, and a warning says so.
            primitives: the candidate operations. Default: those of the space, and behind them in sorted order the
                further names of the text.

        Raises:
            ArchitectureError: it is none; the message names the place.
        """

    @abstractmethod
    def print(self, cells: Mapping[str, Cell]) -> str:
        """The text of cells whose names `fit`.

        Raises:
            ArchitectureError: this form cannot say them.
        """


def tell_last(found: Sequence[object]) -> None:
    """Warn where a text has several architectures in it."""
    if len(found) > 1:
        warnings.warn(f"the text holds {len(found)} genotypes; the last whole one is taken", stacklevel=5)


@dataclass(frozen=True)
class TextForm(Form):
    """How a plugin writes the cells of its space in a line.

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

    def holds(self, text: str) -> bool:
        return text.lstrip().startswith(self.beginning)

    def fits(self, groups: frozenset[str]) -> bool:
        return groups == self.groups

    def parse(self, text: str, primitives: Sequence[str] | None) -> tuple[str, dict[str, Cell]]:
        return self.space, dict(self.read(text.strip()))

    def print(self, cells: Mapping[str, Cell]) -> str:
        return self.write(cells)


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


def registered_forms() -> tuple[TextForm, ...]:
    """Those of plugins."""
    return tuple(_forms.values())
