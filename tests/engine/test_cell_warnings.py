"""What is said of cells that nobody would want to keep, and nothing of others."""

from __future__ import annotations

import numpy as np
import pytest

from datanas.architecture import Architecture, Cell
from datanas.engine.cell_warnings import inspect
from datanas.published import architecture
from datanas.spaces import spaces

OPS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
EDGES = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
SPACE = spaces["conv_cell"](spaces["conv_cell"].Config(primitives=OPS, nodes=5))
DECIDED = {"normal": 0.3}


def cell(*rows: str) -> Architecture:
    """A normal cell whose edges choose these operations, given by their letters."""
    letters = {"m": 1, "s": 2, "c": 3}
    code = np.zeros((len(EDGES), len(OPS)), np.uint8)
    for edge, row in enumerate(rows):
        for letter in row:
            code[edge, letters[letter]] = 1
    return Architecture({"normal": Cell(OPS, EDGES, (2, 3), code, inputs=2)})


def test_a_sound_cell_gives_no_warning() -> None:
    assert inspect(cell("c", "s", "c", "", "c"), SPACE, DECIDED) == []


def test_a_published_cell_gives_no_warning() -> None:
    whole = spaces["conv_cell"](spaces["conv_cell"].Config())
    assert inspect(architecture("gdas"), whole, {"normal": 0.2, "reduce": 0.2}) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("", "", "", "", ""), "normal: collapsed, every edge is none"),
        (("m", "", "", "s", "s"), "normal: collapsed, none of its 3 operations has parameters"),
        (("s", "s", "c", "", "s"), "normal: collapsing, 3 of its 4 operations are identities"),
        (("", "", "c", "c", ""), "normal: no input for node 2"),
        (("c", "sc", "", "", ""), "normal: no input for node 3"),
    ],
)
def test_a_poor_cell_is_named_with_its_fault(rows: tuple[str, ...], message: str) -> None:
    assert message in inspect(cell(*rows), SPACE, DECIDED)


def test_half_of_the_operations_may_be_identities() -> None:
    assert inspect(cell("s", "c", "s", "", "c"), SPACE, DECIDED) == []


@pytest.mark.parametrize(("flatness", "warned"), [(0.979, False), (0.98, True), (1.0, True)])
def test_a_flat_p_is_told(flatness: float, warned: bool) -> None:
    lines = inspect(cell("c", "s", "c", "", "c"), SPACE, {"normal": flatness})
    assert len(lines) == warned
    assert all(f"normal: P is still flat (normalised entropy {flatness:.3f})" in line for line in lines)


def test_every_group_is_looked_at() -> None:
    good, bad = cell("c", "s", "c", "", "c").cells["normal"], cell("", "", "", "", "").cells["normal"]
    lines = inspect(Architecture({"normal": good, "reduce": bad}), SPACE, DECIDED | {"reduce": 1.0})
    assert {line.split(":")[0] for line in lines} == {"reduce"}
    assert len(lines) == 3


def test_operations_that_lead_nowhere_are_counted() -> None:
    whole = spaces["conv_cell"](spaces["conv_cell"].Config())
    text = "Genotype(normal=[{0}], normal_concat=[5], reduce=[{0}], reduce_concat=[5])".format(
        "[('sep_conv_3x3', 0)], [('sep_conv_3x3', 1)], [('sep_conv_3x3', 0)], [('sep_conv_3x3', 0)]"
    )
    found = Architecture.from_genotype(text)
    message = "in a network of 6 cells 21 of 24 operations and 3 of 6 cells whole cannot reach the output, or are not "
    assert inspect(found, whole, {}, 6) == [message + "reached by the input"]
    assert inspect(found, whole, {}) == []
