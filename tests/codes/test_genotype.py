from __future__ import annotations

import json
from collections import Counter, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datanas.codes.architecture import Architecture
from datanas.codes.cell import Cell
from datanas.codes.darts_text import CONV_PRIMITIVES, RECURRENT_PRIMITIVES
from datanas.core.errors import ArchitectureError

DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('max_pool_3x3', 1), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)
RECURRENT = "Genotype(recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('identity', 1)], concat=range(1, 5))"


# Examples have no time limit: what a busy machine does to one says nothing.
patient = settings(deadline=None)


def entries(inputs: int, primitives: tuple[str, ...], most: int) -> st.SearchStrategy[list[list[tuple[str, int]]]]:
    def node(target: int) -> st.SearchStrategy[list[tuple[str, int]]]:
        return st.lists(st.tuples(st.sampled_from(primitives), st.integers(0, target - 1)), max_size=most)

    return st.integers(1, 5).flatmap(lambda inner: st.tuples(*(node(inputs + i) for i in range(inner)))).map(list)


def outputs(draw: Callable[..., Any], inputs: int, nodes: list[Any]) -> list[int]:
    chosen: list[int] = draw(st.lists(st.integers(0, inputs + len(nodes) - 1), min_size=1, unique=True))
    return chosen


def test_reads_darts_flat_form() -> None:
    architecture = Architecture.from_genotype(DARTS)
    normal = architecture.cells["normal"]
    assert architecture.space == "conv_cell"
    assert normal.primitives == CONV_PRIMITIVES
    assert normal.edges == tuple((source, target) for target in range(2, 6) for source in range(target))
    assert normal.node_inputs(5) == [("skip_connect", 0), ("dil_conv_3x3", 2)]
    assert normal.code.shape == (14, 8)
    assert normal.code.sum() == 8


def test_a_list_per_node_and_bare_names_say_the_same() -> None:
    nodes = "[[(sep_conv_3x3,0),(sep_conv_3x3,1)],[],((skip_connect,2),)]"
    text = f"cell = Genotype(normal={nodes}, normal_concat=[2, 3, 4], reduce={nodes}, reduce_concat=range(2, 5))"
    cell = Architecture.from_genotype(text).cells["reduce"]
    assert cell.operations() == [("sep_conv_3x3", 0, 2), ("sep_conv_3x3", 1, 2), ("skip_connect", 2, 4)]
    assert Architecture.from_genotype(text).cells["normal"] == cell


def test_reads_the_recurrent_form() -> None:
    architecture = Architecture.from_genotype(RECURRENT, scope="node", aggregate="mean")
    cell = architecture.cells["recurrent"]
    assert (architecture.space, architecture.scope, architecture.aggregate) == ("recurrent_cell", "node", "mean")
    assert cell.primitives == RECURRENT_PRIMITIVES
    assert cell.inputs == 1
    assert cell.operations() == [("relu", 0, 1), ("relu", 1, 2), ("tanh", 2, 3), ("identity", 1, 4)]


def test_cells_of_each_place_have_the_same_form() -> None:
    """In the order of the places, of which the tenth comes behind the second."""
    one = DARTS.removeprefix("Genotype(").partition(", reduce=")[0].replace("normal", "{0}")
    names = ["normal_0", "normal_2", "reduce_10"]
    text = f"Genotype({', '.join(one.format(name) for name in names)})"
    architecture = Architecture.from_genotype(text)
    assert (architecture.space, list(architecture.cells)) == ("conv_stack", names)
    assert architecture.cells["reduce_10"] == Architecture.from_genotype(DARTS).cells["normal"]
    assert architecture.to_genotype() == text
    with pytest.raises(ArchitectureError, match="normal_2_concat"):
        Architecture.from_genotype(text.replace(", normal_2_concat=range(2, 6)", ""))


def test_counts_an_operation_that_an_edge_has_twice() -> None:
    text = DARTS.replace("('sep_conv_3x3', 1), ('sep_conv_3x3', 0)", "('sep_conv_3x3', 0), ('sep_conv_3x3', 0)")
    cell = Architecture.from_genotype(text).cells["normal"]
    assert cell.code[0, 4] == 2
    assert Architecture.from_genotype(Architecture.from_genotype(text).to_genotype()).cells["normal"] == cell


def test_none_stands_for_nothing() -> None:
    cell = Architecture.from_genotype(RECURRENT.replace("tanh", "none")).cells["recurrent"]
    assert cell.node_inputs(3) == []


def test_appends_further_names_in_sorted_order() -> None:
    text = DARTS.replace("('sep_conv_3x3', 0)", "('zeta', 0)").replace("('max_pool_3x3', 1)", "('alpha', 1)")
    architecture = Architecture.from_genotype(text)
    assert {cell.primitives for cell in architecture.cells.values()} == {(*CONV_PRIMITIVES, "alpha", "zeta")}


def test_takes_the_primitives_that_it_is_given() -> None:
    primitives = ["skip_connect", "max_pool_3x3", "dil_conv_3x3", "sep_conv_3x3"]
    assert Architecture.from_genotype(DARTS, primitives=primitives).cells["normal"].primitives == tuple(primitives)


def test_the_flat_form_is_the_namedtuple_of_darts() -> None:
    genotype = namedtuple("genotype", "normal normal_concat reduce reduce_concat")
    value = eval(Architecture.from_genotype(DARTS).to_genotype(), {"Genotype": genotype})
    assert value.normal[:2] == [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)]
    assert value.reduce_concat == range(2, 6)


def test_writes_what_darts_prints() -> None:
    assert Architecture.from_genotype(DARTS).to_genotype() == DARTS
    assert Architecture.from_genotype(RECURRENT).to_genotype() == RECURRENT


def test_lists_outputs_that_are_no_run() -> None:
    text = DARTS.replace("normal_concat=range(2, 6)", "normal_concat=[5, 2]")
    assert Architecture.from_genotype(text).to_genotype() == text


@patient
@given(st.data())
def test_conv_round_trip(data: st.DataObject) -> None:
    fields: dict[str, Any] = {}
    for group in ("normal", "reduce"):
        fields[group] = data.draw(entries(2, (*CONV_PRIMITIVES, "att_squeeze", "nor conv's"), most=4))
        fields[f"{group}_concat"] = outputs(data.draw, 2, fields[group])
    text = f"Genotype({', '.join(f'{key}={value!r}' for key, value in fields.items())})"
    check_round_trip(Architecture.from_genotype(text), fields)


@patient
@given(st.data())
def test_recurrent_round_trip(data: st.DataObject) -> None:
    nodes = data.draw(entries(1, (*RECURRENT_PRIMITIVES, "gelu"), most=3))
    fields = {"recurrent": nodes, "concat": outputs(data.draw, 1, nodes)}
    check_round_trip(Architecture.from_genotype(f"Genotype(recurrent={nodes!r}, concat={fields['concat']!r})"), fields)


def check_round_trip(architecture: Architecture, fields: dict[str, Any]) -> None:
    for group, cell in architecture.cells.items():
        for target, node in enumerate(fields[group], start=cell.inputs):
            assert Counter(cell.node_inputs(target)) == Counter(entry for entry in node if entry[0] != "none")
        assert list(cell.outputs) == fields[f"{group}_concat" if f"{group}_concat" in fields else "concat"]
    assert Architecture.from_genotype(architecture.to_genotype()) == architecture


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("('dil_conv_3x3', 2)]", "]", r"^normal: a flat list needs 2 entries a node, got 7 in all"),
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', 5)]", r"^normal\[7\]: input 5 does not exist; node 5 has 0..4"),
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', -1)]", r"^normal\[7\]: must be \(operation, input\)"),
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', True)]", r"^normal\[7\]: must be \(operation, input\)"),
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', 2, 1)]", r"^normal\[7\]: must be \(operation, input\)"),
        ("('dil_conv_3x3', 2)]", "(None, 2)]", r"^normal\[7\]: must be \(operation, input\)"),
        ("('dil_conv_3x3', 2)]", "[('dil_conv_3x3', 2)]]", r"^normal\[7\]: must be \(operation, input\)"),
        ("('dil_conv_3x3', 2)]", "print(1)]", r"^normal\[7\]: must be \(operation, input\), got 'print\(1\)'"),
        ("Genotype(normal=[(", "Genotype(normal=[[],(", r"^normal\[1\]\[0\]: must be \(operation, input\)"),
        ("Genotype(normal=[(", "Genotype(normal=[[],3,(", r"^normal\[1\]: must be a list of \(operation, input\)"),
        ("range(2, 6), reduce=", "range(2, 7), reduce=", r"^normal_concat\[4\]: node 6 does not exist"),
        ("range(2, 6), reduce=", "range(0, 10**9), reduce=", r"^normal_concat: must be range"),
        ("range(2, 6), reduce=", "range(1000000000000), reduce=", r"^normal_concat\[6\]: node 6 does not exist"),
        ("range(2, 6), reduce=", "range(6, 2), reduce=", r"^normal_concat: must be a list of at least one"),
        ("range(2, 6), reduce=", "range(2, 6, 0), reduce=", r"^normal_concat: must be a list of at least one"),
        ("range(2, 6), reduce=", "[2, 2], reduce=", r"^normal_concat\[1\]: 2 is there already"),
        ("range(2, 6), reduce=", "[2, '3'], reduce=", r"^normal_concat: must be range"),
        ("range(2, 6), reduce=", "all, reduce=", r"^normal_concat: must be range\(first, end\).*got 'all'"),
        ("normal_concat=", "normal_conact=", r"^normal_conact: unknown; did you mean 'normal_concat'\?"),
        (", reduce_concat=range(2, 6)", "", r"^reduce_concat: missing"),
        (", reduce_concat=", ", normal_concat=", r"^genotype(: cannot be read|\[3\]: 'normal_concat' is there)"),
        ("Genotype(", "Genotype(1, ", r"^genotype: must read Genotype\("),
        ("Genotype(", "Genotype(**{}, ", r"^genotype\[0\]: must be a name"),
        ("Genotype(", "Gene(", r"^genotype: must read Genotype\("),
        ("Genotype(", "Genotype((", r"^genotype: a bracket or quote is not closed"),
        ("normal=[", "normal=[,", r"^genotype: cannot be read near"),
    ],
)
def test_faults_name_the_place(old: str, new: str, message: str) -> None:
    assert DARTS.count(old) == 1
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_genotype(DARTS.replace(old, new))


@pytest.mark.parametrize("value", ["[]", "None", "'tanh'", "-" * 60 + "1"])
def test_refuses_nodes_that_are_no_list(value: str) -> None:
    with pytest.raises(ArchitectureError, match=r"^recurrent: must be a list of \(operation, input\)"):
        Architecture.from_genotype(f"Genotype(recurrent={value}, concat=[1])")


def test_refuses_an_operation_that_is_not_given() -> None:
    with pytest.raises(ArchitectureError, match=r"recurrent\[2\]: unknown operation 'tanh'; did you mean 'tan'\?"):
        Architecture.from_genotype(RECURRENT, primitives=["relu", "tan", "identity"])


def test_refuses_ten_of_the_same() -> None:
    with pytest.raises(ArchitectureError, match=r"recurrent\[0\]\[9\]: tanh is on this edge more than 9 times"):
        Architecture.from_genotype(f"Genotype(recurrent=[{[('tanh', 0)] * 10}], concat=[1])")


@patient
@given(st.text(max_size=60) | st.text(alphabet="Genotype(){}[]=,'\" 01-\\\nrx", max_size=80))
def test_refuses_any_other_text(text: str) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_genotype(text)


@pytest.mark.parametrize("depth", [50, 500, 5_000, 100_000])
def test_refuses_deep_text(depth: int) -> None:
    for value in ("-" * depth + "1", "[" * depth + "]" * depth):
        with pytest.raises(ArchitectureError):
            Architecture.from_genotype(f"Genotype(recurrent={value}, concat=[1])")


def test_is_not_written_for_other_groups() -> None:
    cell = Cell(("none", "skip_connect"), ((0, 1),), (1,), np.array([[0, 1]]), inputs=1)
    with pytest.raises(ArchitectureError, match="this architecture has the cells block1, block2"):
        Architecture({"block1": cell, "block2": cell}).to_genotype()
    with pytest.raises(ArchitectureError, match="of two inputs"):
        Architecture({"normal": cell, "reduce": cell}).to_genotype()


SMALL = (
    "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1)], normal_concat=[2], "
    "reduce=[('skip_connect', 0), ('max_pool_3x3', 1)], reduce_concat=[2])"
)
AUTODL = {
    "normal": [(("skip_connect", 0, 0.15), ("sep_conv_3x3", 1, 0.14))],
    "normal_concat": [2],
    "reduce": [(("skip_connect", 0, 0.1), ("max_pool_3x3", 1, 0.09))],
    "reduce_concat": [2],
}


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "\r\n",
        "\ufeff" + SMALL,
        f"03/12 11:22:33 AM genotype = {SMALL}",
        f"best = genotypes.{SMALL}  # 97.3",
        SMALL.replace("reduce=", "\n  reduce="),
        SMALL.replace("reduce_concat=[2]", "reduce_concat=[2], connectN=None, connects=None"),
        str(AUTODL),
        f"<<<--->>> The 049-th epoch : {AUTODL}",
        str(AUTODL).replace("0.15", "np.float32(0.15)").replace("0.09", "-0.09"),
        json.dumps(AUTODL),
    ],
)
def test_reads_what_people_paste(text: str) -> None:
    assert Architecture.from_text(text) == Architecture.from_genotype(SMALL)


def test_of_several_the_last_whole_one_counts_and_that_is_said() -> None:
    log = f"epoch 1 genotype = {DARTS}\nepoch 2 genotype = {SMALL}\nepoch 3 genotype = {DARTS[:90]}"
    with pytest.warns(UserWarning, match="the text holds 3 genotypes; the last whole one is taken"):
        assert Architecture.from_text(log) == Architecture.from_genotype(SMALL)


def test_reads_a_cell_of_nas_bench_201_out_of_a_log() -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"
    found = Architecture.from_text(f"The arch : Structure(3 nodes with {cell}) | 93.1 |")
    assert found == Architecture.from_genotype(cell)
    with pytest.warns(UserWarning, match="holds 2 genotypes"):
        assert Architecture.from_text(f"1: |none~0|\n2: {cell}") == found


@pytest.mark.parametrize(
    "text",
    [
        "Genotype(" * 5000,
        "Genotype(normal=" + "(" * 9000,
        f"Genotype(normal={'-' * 9000}1)",
        SMALL[:-1] + " " * 200_000,
    ],
)
def test_a_wrong_text_of_any_length_gets_a_short_answer(text: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_text(text)
    assert len(str(caught.value)) < 200
    assert "Python" not in str(caught.value)
