"""A text form of a plugin's own: read wherever a genotype is, and refused where it could be taken for another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from datanas.codes import text_form
from datanas.codes.architecture import Architecture
from datanas.codes.cell import Cell
from datanas.codes.text_form import TextForm, register_text_form
from datanas.core.errors import ArchitectureError, ConfigError


def read(text: str) -> dict[str, Cell]:
    if not text.removeprefix("pair ").isdigit():
        raise ArchitectureError(f"pair: must be two digits, got {text}")
    code = np.array([[int(digit)] for digit in text.removeprefix("pair ")], np.uint8)
    return {"pair": Cell(("skip_connect",), ((0, 1), (0, 2)), (2,), code, 1)}


def write(cells: Mapping[str, Cell]) -> str:
    return "pair " + "".join(str(int(bit)) for bit in cells["pair"].code.flatten())


PAIR = TextForm("pair", "pair ", read, write, frozenset({"pair"}))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_form, "_forms", {})
    register_text_form(PAIR)


def test_it_is_read_and_written_as_a_genotype_is(tmp_path: Path) -> None:
    found = Architecture.from_genotype("pair 10")
    assert found.space == "pair"
    assert found.to_genotype() == "pair 10"
    (tmp_path / "cell.txt").write_text("pair 10\n")
    assert Architecture.load(tmp_path / "cell.txt") == found
    assert Architecture.from_json(found.to_json()) == found


def test_a_wrong_text_is_told_by_its_form() -> None:
    with pytest.raises(ArchitectureError, match="pair: must be two digits"):
        Architecture.from_genotype("pair of shoes")


def test_other_forms_are_read_as_before() -> None:
    assert Architecture.from_genotype("|skip_connect~0|").space == "nasbench201"


@pytest.mark.parametrize(
    ("beginning", "groups", "message"),
    [
        ("pair of ", {"other"}, "another form begins with"),
        ("Genotype: ", {"other"}, "another form begins with"),
        ("", {"other"}, "another form begins with"),
        ("two ", {"pair"}, "another form is of the cells pair"),
    ],
)
def test_a_form_that_could_be_another_is_refused(beginning: str, groups: set[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register_text_form(TextForm("other", beginning, read, write, frozenset(groups)))
