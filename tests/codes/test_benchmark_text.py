from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datanas.codes.architecture import Architecture
from datanas.codes.benchmark_text import BENCHMARK_PRIMITIVES, complete_edges, print_cell, print_operations, read_cell
from datanas.codes.cell import Cell
from datanas.core.errors import ArchitectureError

TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"


def test_reads_the_benchmark_s_string() -> None:
    cell = read_cell(TEXT)
    assert cell.primitives == BENCHMARK_PRIMITIVES
    assert cell.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert (cell.inputs, cell.outputs) == (1, (3,))
    assert cell.code.argmax(axis=1).tolist() == [3, 3, 0, 1, 2, 4]
    assert cell.code.sum(axis=1).tolist() == [1, 1, 0, 1, 1, 1]  # `none` is absence
    assert print_cell(cell) == TEXT


def test_an_architecture_reads_and_prints_it() -> None:
    architecture = Architecture.from_genotype(f" {TEXT}\n")
    assert (architecture.space, architecture.scope, architecture.aggregate) == ("nasbench201", "edge", "sum")
    assert architecture.cells.keys() == {"cell"}
    assert architecture.to_genotype() == TEXT
    assert Architecture.from_json(architecture.to_json()) == architecture


def test_the_order_of_inputs_does_not_matter() -> None:
    assert read_cell("|a~0|+|b~1|c~0|") == read_cell("|a~0|+|c~0|b~1|")


def test_further_names_come_behind_the_benchmark_s() -> None:
    assert read_cell("|zoom~0|+|none~0|blur~1|").primitives == (*BENCHMARK_PRIMITIVES, "blur", "zoom")


def test_none_needs_to_be_no_primitive() -> None:
    cell = read_cell("|a~0|+|none~0|b~1|", ["a", "b"])
    assert cell.code.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert print_cell(cell) == "|a~0|+|none~0|b~1|"


@given(st.integers(2, 7).flatmap(lambda n: st.tuples(*[st.sampled_from(BENCHMARK_PRIMITIVES)] * (n * (n - 1) // 2))))
@settings(deadline=None)
def test_any_number_of_nodes_survives(operations: tuple[str, ...]) -> None:
    text = print_operations(operations)
    cell = read_cell(text)
    assert print_cell(cell) == text
    assert read_cell(print_cell(cell)) == cell
    assert cell.edges == complete_edges(cell.nodes)


def test_different_cells_have_different_texts() -> None:
    texts = {print_operations(operations) for operations in product("abc", repeat=3)}
    assert len(texts) == len({read_cell(text, list("abc")) for text in texts}) == 27


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|", r"node 1: must read \|operation~0\|"),
        ("||", "node 1: must hold operation~source, got ''"),
        ("|a~0", "node 1: must read"),
        ("|a~0|+", "node 2: must read .* got ''"),
        ("|a~0|+|a~0|", "node 2: input 1 is missing; for no operation write none~1"),
        ("|a~0|+|a~0|b~0|", "node 2: input 0 is there twice"),
        ("|a~0|b~0|", "node 1: input 0 is there twice"),
        ("|a~1|", r"node 1: input 1 does not exist; it has 0\.\.0"),
        ("|a~0|+|a~0|b~99999999999999999999|", "node 2: input 999999999 does not exist"),
        ("|a~-1|", "node 1: must hold operation~source, got 'a~-1'"),
        ("|a~²|", "node 1: must hold operation~source"),
        ("|a|", "node 1: must hold operation~source, got 'a'"),
        ("|~0|", "node 1: must hold operation~source, got '~0'"),
        ("|a~0|a~0|+", "node 1: input 0 is there twice"),
    ],
)
def test_malformed_text_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_genotype(text)


def test_an_unknown_operation_is_named_with_its_neighbour() -> None:
    with pytest.raises(ArchitectureError, match="node 2: unknown operation 'skip' on input 1; did you mean"):
        read_cell("|none~0|+|none~0|skip~1|", BENCHMARK_PRIMITIVES)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (Cell(("a", "b"), ((0, 1),), (1,), np.ones((1, 2), np.uint8), 1), r"one operation an edge; \[0, 1\] has 2"),
        (Cell(("a",), ((0, 1),), (1,), np.full((1, 1), 2), 1), r"one operation an edge; \[0, 1\] has 2"),
        (Cell(("a",), ((0, 2), (1, 2)), (2,), np.ones((2, 1), np.uint8), 2), "cells of one input .* has 2"),
        (Cell(("a",), ((0, 1), (1, 2)), (2,), np.ones((2, 1), np.uint8), 1), r"edges: \[0, 2\] is missing"),
        (Cell(("a",), ((0, 1),), (0, 1), np.ones((1, 1), np.uint8), 1), "the outputs 0, 1"),
    ],
)
def test_a_cell_without_a_text_is_refused(cell: Cell, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Architecture({"cell": cell}, space="nasbench201").to_genotype()
