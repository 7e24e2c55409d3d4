from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datanas.codes.cell import Cell
from datanas.core.errors import ArchitectureError


def small_cell(code: Any = ((0, 1, 0), (0, 1, 1), (0, 0, 0)), **fields: Any) -> Cell:
    values: dict[str, Any] = {
        "primitives": ("none", "skip_connect", "sep_conv_3x3"),
        "edges": ((0, 1), (0, 2), (1, 2)),
        "outputs": (1, 2),
        "code": np.array(code),
        "inputs": 1,
    }
    return Cell(**{**values, **fields})


def test_clears_the_none_column() -> None:
    cell = small_cell([[1, 1, 0], [9, 0, 1], [1, 0, 0]])
    assert cell.code.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert cell == small_cell([[0, 1, 0], [0, 0, 1], [0, 0, 0]])


def test_code_is_a_copy_that_cannot_be_written() -> None:
    given_code = np.zeros((3, 3), np.int64)
    cell = small_cell(given_code)
    given_code[0, 1] = 1
    assert cell.code.sum() == 0
    assert cell.code.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        cell.code[0, 1] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        cell.code.flags.writeable = True


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_takes_any_kind_of_whole_number(dtype: type) -> None:
    assert small_cell(np.eye(3, dtype=dtype)) == small_cell(np.eye(3))


def test_lists_operations_by_target_source_and_primitive() -> None:
    cell = small_cell([[0, 1, 2], [0, 0, 1], [0, 1, 0]], edges=((1, 2), (0, 2), (0, 1)))
    assert cell.operations() == [
        ("skip_connect", 0, 1),
        ("sep_conv_3x3", 0, 2),
        ("skip_connect", 1, 2),
        ("sep_conv_3x3", 1, 2),
        ("sep_conv_3x3", 1, 2),
    ]
    assert cell.node_inputs(1) == [("skip_connect", 0)]


def test_counts_inputs_and_targets_as_nodes() -> None:
    assert small_cell().nodes == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"primitives": ("none", "a", "a")}, r"primitives\[2\]: 'a' is there already, as primitives\[1\]"),
        ({"primitives": ("none", "a", "")}, r"primitives\[2\]: must be a name, got ''"),
        ({"primitives": ()}, "primitives: must be a list of at least one entry"),
        ({"primitives": "none"}, "primitives: must be a list"),
        ({"edges": ()}, "edges: must be a list of at least one entry"),
        ({"edges": ((0, 1), (0, 2), (0, 1))}, r"edges\[2\]: \(0, 1\) is there already, as edges\[0\]"),
        ({"edges": ((0, 1), (0, 2), (2, 2))}, r"edges\[2\]: source 2 must be lower than target 2"),
        ({"edges": ((0, 1), (0, 2), (2, 1))}, r"edges\[2\]: source 2 must be lower than target 1"),
        ({"edges": ((0, 1), (0, 2), (-1, 2))}, r"edges\[2\]: must be a whole number of at least 0, got -1"),
        ({"edges": ((0, 1), (0, 2), (1, 2, 3))}, r"edges\[2\]: must be \[source, target\]"),
        ({"edges": ((0, 1), (0, 2), (0, 4))}, "edges: node 3 needs an edge into it"),
        ({"edges": ((0, 1), (0, 2), (1, 2)), "inputs": 2}, r"edges\[0\]: target 1 is an input node"),
        ({"inputs": 0}, "inputs: must be a whole number of at least 1, got 0"),
        ({"inputs": True}, "inputs: must be a whole number"),
        ({"outputs": (1, 3)}, r"outputs\[1\]: node 3 does not exist; the nodes are 0..2"),
        ({"outputs": ()}, "outputs: must be a list of at least one entry"),
        ({"outputs": (1, 1)}, r"outputs\[1\]: 1 is there already"),
        ({"code": np.zeros((3, 2))}, r"code: must have shape \(3, 3\), got \(3, 2\)"),
        ({"code": np.full((3, 3), 10)}, "code: entries must be whole numbers from 0 to 9"),
        ({"code": np.full((3, 3), 0.5)}, "code: entries must be whole numbers"),
        ({"code": np.full((3, 3), np.nan)}, "code: entries must be whole numbers"),
        ({"code": np.full((3, 3), "1")}, "code: entries must be whole numbers"),
    ],
)
def test_refuses_what_is_no_cell(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        small_cell(**fields)
