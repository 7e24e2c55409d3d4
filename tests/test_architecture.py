from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datanas.architecture import CONV_PRIMITIVES, Architecture, Cell
from datanas.errors import ArchitectureError, StorageError

DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('max_pool_3x3', 1), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)


def small_cell(code: Any = ((0, 1, 0), (0, 1, 1), (0, 0, 0)), **fields: Any) -> Cell:
    values: dict[str, Any] = {
        "primitives": ("none", "skip_connect", "sep_conv_3x3"),
        "edges": ((0, 1), (0, 2), (1, 2)),
        "outputs": (1, 2),
        "code": np.array(code),
        "inputs": 1,
    }
    return Cell(**{**values, **fields})


# Examples have no time limit: what a busy machine does to one says nothing.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.text(min_size=1, max_size=8)
notes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def cells(draw: Callable[..., Any]) -> Cell:
    inputs, inner = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    edges = []
    for target in range(inputs, inputs + inner):
        sources = draw(st.lists(st.integers(0, target - 1), min_size=1, max_size=target, unique=True))
        edges += [(source, target) for source in sources]
    edges = draw(st.permutations(edges))
    primitives = draw(st.lists(names | st.just("none"), min_size=1, max_size=5, unique=True))
    outputs = draw(st.lists(st.integers(0, inputs + inner - 1), min_size=1, unique=True))
    row = st.lists(st.integers(0, 9), min_size=len(primitives), max_size=len(primitives))
    code = np.array(draw(st.lists(row, min_size=len(edges), max_size=len(edges))))
    return Cell(tuple(primitives), tuple(edges), tuple(outputs), code, inputs)


architectures = st.builds(
    lambda cells, **rest: Architecture(cells, **rest),
    st.dictionaries(names, cells(), min_size=1, max_size=3),
    space=names,
    scope=st.sampled_from(["edge", "node"]),
    aggregate=st.sampled_from(["sum", "mean"]),
    posterior=st.none()
    | st.fixed_dictionaries({"log_prob": st.floats(), "margin": st.floats(), "samples": st.integers()}),
    source=st.none() | st.dictionaries(names, notes, max_size=3),
)


class TestEquality:
    def test_equal_codes_are_equal_hash_and_print_the_same(self) -> None:
        first = Architecture({"b": small_cell(), "a": small_cell()}, source={"x": 1}, posterior={"log_prob": -1.0})
        second = Architecture({"a": small_cell(), "b": small_cell()})
        assert first == second
        assert hash(first) == hash(second)
        assert repr(first) == repr(second)
        assert first.digest == second.digest

    @pytest.mark.parametrize(
        "other",
        [
            Architecture({"a": small_cell(np.eye(3))}),
            Architecture({"b": small_cell()}),
            Architecture({"a": small_cell(), "b": small_cell()}),
            Architecture({"a": small_cell(outputs=(2, 1))}),
            Architecture({"a": small_cell(edges=((0, 2), (0, 1), (1, 2)))}),
            Architecture({"a": small_cell(primitives=("none", "skip_connect", "other"))}),
            Architecture({"a": small_cell(edges=((0, 2), (1, 2), (0, 3)), inputs=2)}),
            Architecture({"a": small_cell()}, space="other"),
            Architecture({"a": small_cell()}, scope="node"),
            Architecture({"a": small_cell()}, aggregate="mean"),
            "a",
        ],
    )
    def test_any_difference_in_the_choice_makes_them_unequal(self, other: object) -> None:
        architecture = Architecture({"a": small_cell()})
        assert architecture != other
        assert repr(architecture) != repr(other)

    def test_groups_come_in_natural_order(self) -> None:
        architecture = Architecture({name: small_cell() for name in ("block10", "block2", "a²", "block1")})
        assert list(architecture.cells) == ["a²", "block1", "block2", "block10"]
        assert list(architecture.code) == list(architecture.cells)

    def test_cannot_be_changed(self) -> None:
        architecture = Architecture({"a": small_cell()})
        with pytest.raises(FrozenInstanceError):
            architecture.scope = "node"  # type: ignore[misc]
        with pytest.raises(TypeError):
            architecture.cells["b"] = small_cell()  # type: ignore[index]

    @pytest.mark.parametrize("clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
    def test_copies_are_equal_and_still_read_only(self, clone: Callable[[Any], Any]) -> None:
        architecture = Architecture({"a": small_cell()}, source={"x": [1]})
        copied, cell = clone(architecture), clone(small_cell())
        assert copied == architecture
        assert copied.source == architecture.source
        assert cell == small_cell()
        assert not cell.code.flags.writeable


class TestWeights:
    CODE = ((0, 1, 0), (0, 2, 1), (0, 0, 0))

    @pytest.mark.parametrize(
        ("scope", "aggregate", "expected"),
        [
            ("edge", "sum", [[0, 1, 0], [0, 2, 1], [0, 0, 0]]),
            ("node", "sum", [[0, 1, 0], [0, 2, 1], [0, 0, 0]]),
            ("edge", "mean", [[0, 1, 0], [0, 2 / 3, 1 / 3], [0, 0, 0]]),
            ("node", "mean", [[0, 1, 0], [0, 2 / 3, 1 / 3], [0, 0, 0]]),
        ],
    )
    def test_sum_counts_and_mean_divides(self, scope: str, aggregate: str, expected: list[list[float]]) -> None:
        architecture = Architecture({"a": small_cell(self.CODE)}, scope=scope, aggregate=aggregate)
        weights = architecture.weights("a")
        assert weights.dtype == np.float64
        np.testing.assert_array_equal(weights, expected)

    def test_mean_over_a_node_pools_all_its_edges(self) -> None:
        cell = small_cell([[0, 1, 1], [0, 1, 1], [0, 1, 0]])
        by_edge, by_node = (Architecture({"a": cell}, scope=scope, aggregate="mean") for scope in ("edge", "node"))
        np.testing.assert_allclose(by_edge.weights("a"), [[0, 0.5, 0.5], [0, 0.5, 0.5], [0, 1, 0]])
        np.testing.assert_allclose(by_node.weights("a"), [[0, 0.5, 0.5], [0, 1 / 3, 1 / 3], [0, 1 / 3, 0]])

    @patient
    @given(architectures)
    def test_mean_adds_up_to_one_wherever_something_is_chosen(self, architecture: Architecture) -> None:
        architecture = replace(architecture, aggregate="mean")
        for name, cell in architecture.cells.items():
            index = np.arange(len(cell.edges)) if architecture.scope == "edge" else np.array(cell.edges)[:, 1]
            chosen = np.bincount(index, weights=cell.code.sum(1)) > 0
            totals = np.bincount(index, weights=architecture.weights(name).sum(1))
            np.testing.assert_allclose(totals, chosen.astype(float))


class TestNotes:
    def test_become_plain_json(self) -> None:
        architecture = Architecture(
            {"a": small_cell()},
            posterior={"log_prob": np.float32(-0.5), "margin": float("inf"), "samples": np.int64(7)},
            source={"run": ("x", 1)},
        )
        assert architecture.posterior == {"log_prob": -0.5, "margin": None, "samples": 7}
        assert architecture.source == {"run": ["x", 1]}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"posterior": {"log_prob": "-1"}}, r"posterior.log_prob: must be a number, got '-1'"),
            ({"posterior": {"samples": True}}, r"posterior.samples: must be a number"),
            ({"posterior": [1]}, r"posterior: must be an object"),
            ({"source": {"a": {"b": {1}}}}, r"source.a.b: must be JSON"),
            ({"source": {1: "a"}}, r"source: must be a name, got 1"),
            ({"scope": "nodes"}, r"scope: must be edge or node, got 'nodes'"),
            ({"aggregate": None}, r"aggregate: must be sum or mean, got None"),
            ({"space": ""}, r"space: must be a name, got ''"),
            ({"cells": {}}, r"cells: must hold at least one cell"),
            ({"cells": {"": small_cell()}}, r"cells: must be a name, got ''"),
        ],
    )
    def test_and_the_other_fields_are_checked(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ArchitectureError, match=message):
            Architecture(**{"cells": {"a": small_cell()}, **fields})


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


class TestJson:
    @patient
    @given(architectures)
    def test_round_trip(self, architecture: Architecture) -> None:
        text = architecture.to_json()
        for again in (Architecture.from_json(text), Architecture.from_json(json.loads(text))):
            assert again == architecture
            assert again.posterior == architecture.posterior
            assert again.source == architecture.source
            assert again.to_json() == text

    def test_reads_as_the_schema_says(self) -> None:
        plain = document()
        assert list(plain) == ["schema", "version", "space", "scope", "aggregate", "cells"]
        assert (plain["schema"], plain["version"], plain["space"]) == ("datanas.architecture", 1, "conv_cell")
        cell = plain["cells"]["normal"]
        assert list(cell) == ["primitives", "nodes", "inputs", "edges", "outputs", "code"]
        assert cell["primitives"] == list(CONV_PRIMITIVES)
        assert (cell["nodes"], cell["inputs"], cell["outputs"]) == (6, 2, [2, 3, 4, 5])
        assert cell["edges"][:5] == [[0, 2], [1, 2], [0, 3], [1, 3], [2, 3]]
        assert cell["code"][:5] == ["00001000", "00001000", "00001000", "00001000", "00000000"]

    def test_puts_short_lists_on_one_line(self) -> None:
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
    def test_faults_name_the_place_and_what_is_right(self, change: Callable[[Any], None], message: str) -> None:
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
    def test_refuses_other_text(self, text: str, message: str) -> None:
        with pytest.raises(ArchitectureError, match=message):
            Architecture.from_json(text)

    def test_refuses_deep_notes(self) -> None:
        plain = json.dumps({**document(), "source": {"a": 0}})
        with pytest.raises(ArchitectureError, match="nested too deeply"):
            Architecture.from_json(plain.replace('{"a": 0}', '{"a": ' + "[" * 900 + "]" * 900 + "}"))

    @patient
    @given(notes)
    def test_refuses_any_other_json(self, value: Any) -> None:
        with pytest.raises(ArchitectureError):
            Architecture.from_json(json.dumps(value).replace("NaN", "0").replace("Infinity", "0"))

    @patient
    @given(st.data())
    def test_a_changed_value_is_read_or_refused_and_nothing_else(self, data: st.DataObject) -> None:
        plain = document()
        inside: Any = plain
        while isinstance(inside, (dict, list)) and inside:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            key = data.draw(st.sampled_from(keys))
            if data.draw(st.booleans()):
                break
            last, inside = (inside, key), inside[key]
        holder, key = (inside, key) if isinstance(inside, (dict, list)) else last
        holder[key] = data.draw(notes)
        with suppress(ArchitectureError):
            assert Architecture.from_json(plain)


class TestFiles:
    def test_save_and_load(self, tmp_path: Path) -> None:
        architecture = Architecture.from_genotype(DARTS)
        architecture.save(tmp_path / "a.json")
        assert Architecture.load(str(tmp_path / "a.json")) == architecture
        assert [file.name for file in tmp_path.iterdir()] == ["a.json"]

    def test_load_takes_a_byte_order_mark(self, tmp_path: Path) -> None:
        text = Architecture.from_genotype(DARTS).to_json()
        (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
        assert Architecture.load(tmp_path / "a.json") == Architecture.from_genotype(DARTS)

    def test_names_the_file_that_it_cannot_read(self, tmp_path: Path) -> None:
        with pytest.raises(ArchitectureError, match=r"a\.json: No such file"):
            Architecture.load(tmp_path / "a.json")
        (tmp_path / "a.json").write_text("{}")
        with pytest.raises(ArchitectureError, match=r"a\.json: schema: must be"):
            Architecture.load(tmp_path / "a.json")
        (tmp_path / "a.json").write_bytes(b"\x89PNG")
        with pytest.raises(ArchitectureError, match=r"a\.json: not text: invalid start byte at byte 0"):
            Architecture.load(tmp_path / "a.json")
        with pytest.raises(ArchitectureError, match="directory"):
            Architecture.load(tmp_path)

    def test_names_the_file_that_it_cannot_write(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"a\.json: No such file"):
            Architecture.from_genotype(DARTS).save(tmp_path / "missing" / "a.json")

    @patient
    @given(st.binary(max_size=200))
    def test_survives_any_bytes(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ArchitectureError):
            Architecture.load(tmp_path / "a.json")

    @patient
    @given(st.integers(0, 2000), st.integers(0, 255), st.booleans())
    def test_survives_a_damaged_file(self, tmp_path: Path, place: int, byte: int, cut: bool) -> None:
        content = bytearray(Architecture.from_genotype(DARTS).to_json().encode())
        content[place % len(content)] = byte
        (tmp_path / "a.json").write_bytes(content[: place % len(content)] if cut else content)
        with suppress(ArchitectureError):
            assert Architecture.load(tmp_path / "a.json")
