"""What a cell computes, against a comparison of graphs by brute force."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from datanas.codes.architecture import Architecture
from datanas.codes.cell import Cell
from datanas.codes.liveness import live_cell
from datanas.codes.wiring import wiring_key
from datanas.spaces.nasbench201 import NASBench201Space

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def architecture(ops: tuple[int, ...]) -> Architecture:
    a, b, c, d, e, f = (f"{OPS[op]}~{source}" for op, (source, _) in zip(ops, EDGES, strict=True))
    return Architecture.from_genotype(f"|{a}|+|{b}|{c}|+|{d}|{e}|{f}|")


def key(*ops: int) -> tuple[Any, ...]:
    return NASBench201Space.network_key(architecture(ops))


def smallest_graph(cell: Cell) -> tuple[Any, ...]:
    """The graph of a cell's operations as matrices, in that order of operations that sorts first."""
    code = live_cell(cell).code
    chosen = {cell.edges[edge]: cell.primitives[op] for edge, op in zip(*np.nonzero(code), strict=True)}
    made = [ends for ends, name in chosen.items() if name != "skip_connect"]
    values = {0: np.eye(1, len(made) + 1, len(made), dtype=int)[0]}
    for node in (1, 2, 3):
        values[node] = np.zeros(len(made) + 1, int)
        for ends in (ends for ends in chosen if ends[1] == node):
            own = np.eye(1, len(made) + 1, made.index(ends), dtype=int)[0] if ends in made else values[ends[0]]
            values[node] = values[node] + own
    rows = [values[source] for source, _ in made]
    orders = ([*order, len(made)] for order in permutations(range(len(made))))
    return min(
        (
            tuple(chosen[made[i]] for i in order[:-1]),
            tuple(tuple(rows[i][order].tolist()) for i in order[:-1]),
            tuple(values[3][order].tolist()),
        )
        for order in orders
    )


def test_cells_have_one_key_where_their_graphs_are_the_same() -> None:
    every = list(product(range(len(OPS)), repeat=len(EDGES)))
    drawn = np.random.default_rng(0).permutation(len(every))[:1500]
    keys: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    graphs: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    for row in drawn:
        own, graph = key(*every[row]), smallest_graph(architecture(every[row]).cells["cell"])
        keys.setdefault(own, set()).add(graph)
        graphs.setdefault(graph, set()).add(own)
    assert len(keys) < 1200
    assert all(len(each) == 1 for each in keys.values())
    assert all(len(each) == 1 for each in graphs.values())


def test_the_benchmark_has_so_many_networks() -> None:
    """The number that `smallest_graph` finds over all cells, in half a minute."""
    assert len({key(*ops) for ops in product(range(len(OPS)), repeat=len(EDGES))}) == 5425


@pytest.mark.parametrize("ops", [(0, 4, 0, 3, 0, 1), (3, 3, 4, 4, 1, 0), (0, 3, 2, 4, 2, 1)])
def test_a_sum_of_convolution_and_pooling_is_one_network(ops: tuple[int, ...]) -> None:
    assert key(*ops) == key(3, 4, 0, 0, 1, 1)


def test_two_convolutions_are_not_one_that_enters_twice() -> None:
    assert key(3, 1, 0, 0, 0, 1) != key(3, 3, 0, 0, 1, 1)
    twice, two = key(3, 0, 1, 0, 1, 1), key(3, 3, 0, 0, 1, 1)
    assert twice != two
    assert key(3, 0, 3, 0, 1, 1) != key(3, 0, 3, 3, 0, 1)


def test_factors_and_inputs_belong_to_the_key() -> None:
    code = np.array([[1, 0], [0, 1]], np.uint8)
    cell = Cell(("skip", "conv"), ((0, 2), (1, 2)), (2,), code, 2)
    other = Cell(("skip", "conv"), ((1, 2), (0, 2)), (2,), code, 2)
    one = np.ones((2, 2))
    assert wiring_key(cell, one, {"skip"}) != wiring_key(other, one, {"skip"})
    assert wiring_key(cell, one, {"skip"}) != wiring_key(cell, one / 2, {"skip"})
    assert wiring_key(cell, one, {"skip"}) == wiring_key(cell, np.array([[1.0, 9.0], [9.0, 1.0]]), {"skip"})
