"""Architectures as text, in whichever form: `darts_text`, `benchmark_text`, `layer_code`, `stage_code`, a plugin's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datanas.codes.benchmark_text import BenchmarkForm
from datanas.codes.cell import Cell
from datanas.codes.darts_text import WANTED, DartsForm
from datanas.codes.layer_code import LayerForm
from datanas.codes.stage_code import StageForm
from datanas.codes.text_form import Form, registered_forms
from datanas.core.errors import ArchitectureError

_DARTS = DartsForm()
_FORMS: tuple[Form, ...] = (StageForm(), LayerForm(), _DARTS, BenchmarkForm())
"""Built in, in the order in which a text is tried."""


def _forms() -> tuple[Form, ...]:
    return *registered_forms(), *_FORMS


def holds_genotype(text: str) -> bool:
    """Whether a text has a genotype of any form in it, be it a whole one or the beginning of one."""
    return any(form.holds(text) for form in _forms())


def read_genotype(text: str, primitives: Sequence[str] | None = None) -> tuple[str, dict[str, Cell]]:
    """The space and the cells of a genotype, as `Architecture.from_genotype` says.

    Of several in a text, such as the log of a search, the last whole one counts, and a warning says so.

    Raises:
        ArchitectureError: the text is something else; the message names the place.
    """
    text = text.removeprefix("\ufeff")
    form = next((form for form in _forms() if form.holds(text)), None)
    if form is None:
        raise ArchitectureError(WANTED)
    return form.parse(text, primitives)


def print_genotype(cells: Mapping[str, Cell]) -> str:
    """The text that `Architecture.to_genotype` describes.

    Raises:
        ArchitectureError: the cells are not those that it names.
    """
    groups = frozenset(cells)
    return next((form for form in _forms() if form.fits(groups)), _DARTS).print(cells)
