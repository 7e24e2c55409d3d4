"""What is said of cells that nobody would want to keep, and nothing of others."""

from __future__ import annotations

import numpy as np
import pytest

from datanas.codes.architecture import Architecture, Cell
from datanas.engine.collapse import collapse, inspect, is_collapsed
from datanas.lookup import architecture
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.macro import MacroSpace
from datanas.spaces.mobile import MobileSpace
from datanas.spaces.network_config import ToweredConfig

OPS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
EDGES = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
SPACE = ConvCellSpace(ConvCellSpace.Config(primitives=OPS, nodes=5))
DECIDED = {"normal": 0.3}


def cell(*rows: str) -> Architecture:
    """A normal cell whose edges choose these operations, given by their letters."""
    letters = {"m": 1, "s": 2, "c": 3}
    code = np.zeros((len(EDGES), len(OPS)), np.uint8)
    for edge, row in enumerate(rows):
        for letter in row:
            code[edge, letters[letter]] = 1
    return Architecture({"normal": Cell(OPS, EDGES, (2, 3), code, inputs=2)})


MOBILE = MobileSpace(MobileSpace.Config(layers=(1, 3), widths=(1, 2), strides=(1, 2), channels=4, features=8))
WHOLE = Architecture.from_genotype("mobile: w100 mb3_k3 | w200/2 mb3_k3 identity identity")


def test_a_stage_of_identities_is_a_choice_of_its_depth() -> None:
    assert collapse(WHOLE, MOBILE) is None
    assert inspect(WHOLE, MOBILE, {}) == []


def test_a_whole_network_of_identities_has_collapsed() -> None:
    found = Architecture.from_genotype("mobile: w100 identity | w200/2 mb3_k3 identity identity")
    assert collapse(found, MOBILE) == "collapsed: the network: 3 of its 4 operations are identities."
    flat = MobileSpace(MobileSpace.Config(layers=(2,), widths=(1,), strides=(1,), channels=4, features=8))
    found = Architecture.from_genotype("mobile: w100 identity identity")
    assert collapse(found, flat) == "collapsed: the network: none of its 2 operations has parameters."


def test_a_sound_cell_gives_no_warning() -> None:
    assert inspect(cell("c", "s", "c", "", "c"), SPACE, DECIDED) == []


def test_a_published_cell_gives_no_warning() -> None:
    whole = ConvCellSpace(ConvCellSpace.Config())
    assert inspect(architecture("gdas"), whole, {"normal": 0.2, "reduce": 0.2}) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("", "", "c", "c", ""), "normal: no input for node 2"),
        (("c", "sc", "", "", ""), "normal: no input for node 3"),
    ],
)
def test_a_node_without_input_is_named(rows: tuple[str, ...], message: str) -> None:
    assert message in inspect(cell(*rows), SPACE, DECIDED)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (("", "", "", "", ""), "nothing leads from its inputs to its output"),
        (("", "", "", "", "c"), "nothing leads from its inputs to its output"),
        (("m", "", "", "s", "s"), "none of its 3 operations has parameters"),
        (("m", "", "", "", "s"), "none of its 2 operations has parameters"),
        (("s", "s", "c", "", "s"), "3 of its 4 operations are identities"),
    ],
)
def test_a_collapsed_cell_is_named_with_its_fault_and_what_helps(rows: tuple[str, ...], fault: str) -> None:
    assert collapse(cell(*rows), SPACE, "Try more data.") == f"collapsed: normal: {fault}. Try more data."
    assert is_collapsed(cell(*rows), SPACE)


def test_a_dead_operation_does_not_save_a_cell_from_having_collapsed() -> None:
    edges = ((0, 1), (0, 2), (1, 2))
    code = np.zeros((3, len(OPS)), np.uint8)
    code[0, 3] = code[1, 2] = 1  # a convolution that nothing reads, and an identity
    found = Architecture({"normal": Cell(OPS, edges, (2,), code, inputs=1)})
    assert collapse(found, SPACE) == "collapsed: normal: none of its 1 operations has parameters."


def test_a_collapse_is_not_among_what_is_told_on_the_way() -> None:
    assert not any("collaps" in line for line in inspect(cell("m", "", "", "s", "s"), SPACE, DECIDED))


def test_half_of_the_operations_may_be_identities() -> None:
    assert inspect(cell("s", "c", "s", "", "c"), SPACE, DECIDED) == []
    assert collapse(cell("s", "c", "s", "", "c"), SPACE) is None


@pytest.mark.parametrize(("flatness", "warned"), [(0.979, False), (0.98, True), (1.0, True)])
def test_a_flat_p_is_told(flatness: float, warned: bool) -> None:
    lines = inspect(cell("c", "s", "c", "", "c"), SPACE, {"normal": flatness})
    assert len(lines) == warned
    assert all(f"normal: P is still flat (normalised entropy {flatness:.3f})" in line for line in lines)


def test_groups_that_are_flat_are_told_in_one_line() -> None:
    first, second, third = WHOLE.cells
    (line,) = inspect(WHOLE, MOBILE, {first: 0.99, second: 1.0, third: 0.5})
    assert line.startswith(f"{first}, {second}: P is still flat (normalised entropy 0.990 to 1.000)")


@pytest.mark.parametrize("several", [False, True])
def test_samples_decide_of_how_many_are_kept_only_where_several_may_be(several: bool) -> None:
    space = MacroSpace(MacroSpace.Config(several=several))
    (line,) = inspect(Architecture.from_genotype("12012010"), space, {"layers": 1.0})
    assert ("the number of samples decides" in line) == several


def test_every_group_is_looked_at() -> None:
    good, bad = cell("c", "s", "c", "", "c").cells["normal"], cell("", "", "", "", "").cells["normal"]
    lines = inspect(Architecture({"normal": good, "reduce": bad}), SPACE, DECIDED | {"reduce": 1.0})
    assert {line.split(":")[0] for line in lines} == {"reduce"}
    assert len(lines) == 2


def test_operations_that_lead_nowhere_are_counted() -> None:
    whole = ConvCellSpace(ConvCellSpace.Config())
    text = "Genotype(normal=[{0}], normal_concat=[5], reduce=[{0}], reduce_concat=[5])".format(
        "[('sep_conv_3x3', 0)], [('sep_conv_3x3', 1)], [('sep_conv_3x3', 0)], [('sep_conv_3x3', 0)]"
    )
    found = Architecture.from_genotype(text)
    message = "in a network of 6 cells 21 of 24 operations and 3 of 6 cells whole cannot reach the output, or are not "
    assert inspect(found, whole, {}, ToweredConfig(cells=6)) == [message + "reached by the input"]
    assert inspect(found, whole, {}) == []
