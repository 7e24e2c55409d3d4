"""Tables of latencies that users bring."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datanas.budgets.latency_rows import LatencyRows, rows_text
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import DataError

GROUPS = {
    "normal": ChoiceGroup("normal", ((0, 1), (0, 2)), ("none", "skip", "conv"), (1, 2), 1),
    "reduce": ChoiceGroup("reduce", ((0, 1),), ("none", "skip", "conv"), (1,), 1),
}


def table(path: Path) -> Any:
    return LatencyRows.load(path).additive(SimpleNamespace(groups=GROUPS))  # type: ignore[arg-type]


def written(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_nearest_row_holds(tmp_path: Path) -> None:
    text = "group,edge,op,milliseconds\n,,conv,2\nnormal,,conv,3\nnormal,1,conv,4\n,,skip,0.5\n,,constant,1.5\n"
    found = table(written(tmp_path, text))
    assert found.constant == 1.5
    np.testing.assert_array_equal(found.tables["normal"], [[0, 0.5, 3], [0, 0.5, 4]])
    np.testing.assert_array_equal(found.tables["reduce"], [[0, 0.5, 2]])


@pytest.mark.parametrize(
    "document",
    [
        [{"op": "conv", "seconds": 0.002}, {"op": "skip", "us": 500}],
        {"device": "board", "unit": "us", "rows": [{"op": "conv", "latency": 2000}, {"op": "skip", "latency": 500}]},
    ],
)
def test_json_and_units(tmp_path: Path, document: object) -> None:
    path = written(tmp_path, json.dumps(document), "t.json")
    np.testing.assert_allclose(table(path).tables["reduce"], [[0, 0.5, 2]])
    assert LatencyRows.load(path).device == ("board" if isinstance(document, dict) else None)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    tables = {"normal": np.array([[0, 0.1, 1 / 3], [0, 0, 2]]), "reduce": np.array([[0, 1, 7.0]])}
    found = table(written(tmp_path, rows_text(tables, GROUPS, 0.7)))
    assert found.constant == 0.7
    for name, expected in tables.items():
        np.testing.assert_array_equal(found.tables[name], expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("op,milliseconds\nconv,2\n", "has no row for skip on edge 0 of normal"),
        ("op,milliseconds\nconv,-2\nskip,1\n", "row 1: milliseconds must be finite and not negative, got '-2'"),
        ("op,milliseconds\nconv,nan\nskip,1\n", "row 1: milliseconds must be finite"),
        ("op,milliseconds\nconv,two\n", "row 1: milliseconds must be a number, got 'two'"),
        ("op,speed\nconv,2\n", "row 1: unknown column 'speed'"),
        ("op\nconv\n", "row 1: needs op and one of milliseconds"),
        ("op,milliseconds\n", "holds no rows"),
        ("op,milliseconds\nconv,2\nconv,3\n", "row 2: conv is there already"),
        ("group,edge,op,ms\n,x,conv,2\n", "row 1: edge must be a whole number"),
        ("group,edge,op,ms\nnormal,2,conv,2\n", r"edge 2 does not exist; there are 0\.\.1"),
        ("group,edge,op,ms\nnorml,0,conv,2\n", "group 'norml' is none of this space; did you mean 'normal'"),
    ],
)
def test_faults_are_told_with_their_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(written(tmp_path, text))


def test_a_missing_file_and_an_unknown_unit_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        LatencyRows.load(tmp_path / "none.csv")
    with pytest.raises(DataError, match="unit 'days' is no time"):
        LatencyRows.load(written(tmp_path, '{"unit": "days", "rows": []}', "t.json"))
