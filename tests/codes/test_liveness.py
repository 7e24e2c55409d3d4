from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from datanas.codes.cell import Cell
from datanas.codes.liveness import LiveCount, lets_through, live_cell, live_edges, live_stack
from datanas.lookup import architecture, architectures

EDGES = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4))


def cell(*used: tuple[int, int], outputs: tuple[int, ...] = (2, 3, 4)) -> Cell:
    code = np.array([[0, edge in used] for edge in EDGES], np.uint8)
    return Cell(("none", "op"), EDGES, outputs, code, inputs=2)


def live_by_paths(cells: list[Cell]) -> list[set[tuple[int, int]]]:
    """The edges on some path from a first value to the last cell's output, found by walking all paths."""
    found: list[set[tuple[int, int]]] = [set() for _ in cells]

    def back(place: int) -> list[list[tuple[int, tuple[int, int]]]]:
        """All ways from the beginning to the value at `place`, as lists of (cell, edge)."""
        if place < 2:
            return [[]]
        index = place - 2
        return [way for node in cells[index].outputs for way in to_node(index, node)]

    def to_node(index: int, node: int) -> list[list[tuple[int, tuple[int, int]]]]:
        if node < 2:
            return back(index + node)
        ways = []
        for edge, row in zip(EDGES, cells[index].code, strict=True):
            if edge[1] == node and row.any():
                ways += [[*way, (index, edge)] for way in to_node(index, edge[0])]
        return ways

    for way in back(len(cells) + 1):
        for index, edge in way:
            found[index].add(edge)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_what_is_live_lies_on_a_path(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = []
    for _ in range(rng.integers(1, 5)):
        outputs = tuple(node for node in range(5) if rng.random() < 0.5) or (4,)
        cells.append(cell(*(edge for edge in EDGES if rng.random() < 0.3), outputs=outputs))
    stack = live_stack(cells)
    expected = live_by_paths(cells)
    for part, edges in zip(stack.cells, expected, strict=True):
        code = np.zeros((len(EDGES), 2)) if part is None else part.code
        assert {edge for edge, row in zip(EDGES, code, strict=True) if row.any()} == edges
    assert stack.count.operations == sum(map(len, expected))


def test_a_node_that_nothing_enters_is_no_output() -> None:
    part = live_cell(cell((0, 2), (3, 4)))
    assert part.outputs == (2,)
    assert part.reads == (True, False)
    assert part.code.sum() == 1


def test_what_no_output_reads_is_not_live() -> None:
    part = live_cell(cell((0, 2), (1, 3), outputs=(2,)))
    assert part.code[EDGES.index((1, 3))].sum() == 0
    assert part.reads == (True, False)


def test_an_input_that_is_not_reached_has_no_live_readers() -> None:
    part = live_cell(cell((0, 2), (1, 3)), reached=(False, True))
    assert part.outputs == (3,)
    assert part.reads == (False, True)


def test_an_input_may_be_an_output() -> None:
    assert live_cell(cell((0, 2), outputs=(1, 2))).reads == (True, True)


@pytest.mark.parametrize("name", architectures())
def test_published_cells_are_live_throughout(name: str) -> None:
    published = architecture(name)
    groups = list(published.cells)
    for order in product(groups, repeat=3):
        count = live_stack([published.cells[group] for group in order]).count
        assert count.operations == count.chosen
        assert count.text() == ""


def test_edges_may_stand_in_any_order() -> None:
    edges, is_open = [(2, 3), (1, 2), (0, 1), (0, 3)], [True, True, True, False]
    live = live_edges(edges, is_open, outputs=(3,), inputs=1)
    assert live.edges == (True, True, True, False)
    assert (live.outputs, live.reads) == ((3,), (True,))


def test_a_cell_lets_through_what_has_a_path() -> None:
    assert lets_through(cell((0, 2), (2, 4), outputs=(4,)))
    assert not lets_through(cell((2, 4), outputs=(4,)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (LiveCount(5, 5, 2, 2), ""),
        (LiveCount(0, 5, 0, 2), "no operation leads from the input to the output: the network cannot learn from what"),
        (LiveCount(3, 5, 2, 2), "2 of 5 operations cannot reach the output, or are not reached by the input"),
        (LiveCount(1, 6, 1, 4), "5 of 6 operations and 3 of 4 cells whole cannot reach the output, or are not reached"),
    ],
)
def test_what_is_left_out_is_said(count: LiveCount, text: str) -> None:
    assert count.text().startswith(text)
    assert bool(count.text()) == bool(text)
