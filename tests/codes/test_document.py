from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datanas.codes.architecture import Architecture
from datanas.codes.darts_text import CONV_PRIMITIVES
from datanas.core.errors import ArchitectureError

DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('max_pool_3x3', 1), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)

# Examples have no time limit: what a busy machine does to one says nothing.
patient = settings(deadline=None)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def document() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(Architecture.from_genotype(DARTS).to_json())
    return plain


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(plain: Any) -> None:
        for key in path[:-1]:
            plain = plain[key]
        plain[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(plain: Any) -> None:
        for key in path[:-1]:
            plain = plain[key]
        del plain[path[-1]]

    return change


def test_reads_as_the_schema_says() -> None:
    plain = document()
    assert list(plain) == ["schema", "version", "space", "scope", "aggregate", "cells"]
    assert (plain["schema"], plain["version"], plain["space"]) == ("datanas.architecture", 1, "conv_cell")
    cell = plain["cells"]["normal"]
    assert list(cell) == ["primitives", "nodes", "inputs", "edges", "outputs", "code"]
    assert cell["primitives"] == list(CONV_PRIMITIVES)
    assert (cell["nodes"], cell["inputs"], cell["outputs"]) == (6, 2, [2, 3, 4, 5])
    assert cell["edges"][:5] == [[0, 2], [1, 2], [0, 3], [1, 3], [2, 3]]
    assert cell["code"][:5] == ["00001000", "00001000", "00001000", "00001000", "00000000"]


def test_puts_short_lists_on_one_line() -> None:
    assert '      "outputs": [2, 3, 4, 5],\n' in Architecture.from_genotype(DARTS).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("schema", value="other"), r"^schema: must be 'datanas.architecture', got 'other'"),
        (drop("schema"), r"^schema: must be 'datanas.architecture', got None"),
        (
            put("version", value=2),
            r"^version: written by a newer datanas: schema version 2, this one reads up to 1",
        ),
        (put("version", value="1"), r"^version: must be a whole number of at least 1, got '1'"),
        (drop("version"), r"^version: must be a whole number"),
        (drop("scope"), r"^scope: missing"),
        (put("scpoe", value="edge"), r"^scpoe: unknown; did you mean 'scope'\?"),
        (put("scope", value="graph"), r"^scope: must be edge or node, got 'graph'"),
        (put("aggregate", value=["sum"]), r"^aggregate: must be sum or mean"),
        (put("space", value=3), r"^space: must be a name, got 3"),
        (put("posterior", value=-1.0), r"^posterior: must be an object"),
        (put("cells", value=[]), r"^cells: must be an object"),
        (put("cells", value={}), r"^cells: must hold at least one cell"),
        (put("cells", "normal", value="0001"), r"^cells.normal: must be an object with named fields, got '0001'"),
        (drop("cells", "normal", "code"), r"^cells.normal.code: missing"),
        (put("cells", "reduce", "edge", value=[]), r"^cells.reduce.edge: unknown; did you mean 'edges'\?"),
        (
            put("cells", "normal", "code", 3, value="0001"),
            r"^cells.normal.code\[3\]: must be text of 8 digits.*'0001'",
        ),
        (put("cells", "normal", "code", 3, value="0001000x"), r"^cells.normal.code\[3\]: must be text of 8 digits"),
        (put("cells", "normal", "code", 3, value="0001000²"), r"^cells.normal.code\[3\]: must be text of 8 digits"),
        (put("cells", "normal", "code", 3, value=1000), r"^cells.normal.code\[3\]: must be text of 8 digits"),
        (drop("cells", "normal", "code", 3), r"^cells.normal.code: must be a list of 14 rows"),
        (put("cells", "normal", "code", value="0"), r"^cells.normal.code: must be a list of 14 rows"),
        (
            put("cells", "normal", "edges", 13, value=[4, 6]),
            r"^cells.normal.edges\[13\]: node 6 does not exist.* 0..5",
        ),
        (put("cells", "normal", "edges", 13, value=[5, 5]), r"^cells.normal.edges\[13\]: source 5 must be lower"),
        (put("cells", "normal", "edges", 13, value=[-1, 5]), r"^cells.normal.edges\[13\]: must be a whole number"),
        (
            put("cells", "normal", "edges", 13, value=[0, 1]),
            r"^cells.normal.edges\[13\]: target 1 is an input node",
        ),
        (
            put("cells", "normal", "edges", 13, value=[0, 5]),
            r"^cells.normal.edges\[13\]: \(0, 5\) is there already",
        ),
        (put("cells", "normal", "edges", 13, value=[1.0, 5]), r"^cells.normal.edges\[13\]: must be a whole number"),
        (
            put("cells", "normal", "edges", 13, value=5),
            r"^cells.normal.edges\[13\]: must be \[source, target\], got 5",
        ),
        (put("cells", "normal", "edges", value={}), r"^cells.normal.edges: must be a list"),
        (put("cells", "normal", "outputs", 0, value=6), r"^cells.normal.outputs\[0\]: node 6 does not exist"),
        (put("cells", "normal", "outputs", 0, value=3), r"^cells.normal.outputs\[1\]: 3 is there already"),
        (put("cells", "normal", "outputs", value=2), r"^cells.normal.outputs: must be a list"),
        (put("cells", "normal", "nodes", value=10**30), r"^cells.normal.nodes: must be 6"),
        (put("cells", "normal", "nodes", value=None), r"^cells.normal.nodes: must be a whole number"),
        (put("cells", "normal", "inputs", value=10**30), r"^cells.normal.edges\[0\]: target 2 is an input node"),
        (put("cells", "normal", "primitives", 1, value="none"), r"^cells.normal.primitives\[1\]: 'none' is there"),
        (put("cells", "normal", "primitives", 1, value=None), r"^cells.normal.primitives\[1\]: must be a name"),
    ],
)
def test_faults_name_the_place_and_what_is_right(change: Callable[[Any], None], message: str) -> None:
    plain = document()
    assert Architecture.from_json(plain)
    change(plain)
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(json.dumps(plain))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "the document: must be an object"),
        ("null", "the document: must be an object"),
        ('{"schema": "datanas.architecture", "version": NaN}', "not JSON: NaN"),
        ('{"schema": 1, "schema": 2}', "a key occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 10_000, "not JSON"),
    ],
)
def test_refuses_other_text(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(text)


@pytest.mark.parametrize("depth", [101, 900])
def test_refuses_deep_notes(depth: int) -> None:
    plain = json.dumps({**document(), "source": {"a": 0}})
    with pytest.raises(ArchitectureError, match="nested too deeply"):
        Architecture.from_json(plain.replace('{"a": 0}', '{"a": ' + "[" * depth + "]" * depth + "}"))


def test_notes_may_be_nested() -> None:
    plain = json.dumps({**document(), "source": {"a": 0}})
    read = Architecture.from_json(plain.replace('{"a": 0}', '{"a": ' + "[" * 90 + "]" * 90 + "}"))
    assert Architecture.from_json(read.to_json()).source == read.source


@patient
@given(values)
def test_refuses_any_other_json(value: Any) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_json(json.dumps(value).replace("NaN", "0").replace("Infinity", "0"))


@patient
@given(st.data())
def test_a_changed_value_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    plain = document()
    inside: Any = plain
    while isinstance(inside, (dict, list)) and inside:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()):
            break
        last, inside = (inside, key), inside[key]
    holder, key = (inside, key) if isinstance(inside, (dict, list)) else last
    holder[key] = data.draw(values)
    with suppress(ArchitectureError):
        assert Architecture.from_json(plain)
