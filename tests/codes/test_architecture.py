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

from datanas.codes.architecture import Architecture, Cell
from datanas.core.errors import ArchitectureError, StorageError

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
        np.testing.assert_allclose(by_edge.weights("a"), [[0.0, 0.5, 0.5], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0]])
        np.testing.assert_allclose(by_node.weights("a"), [[0.0, 0.5, 0.5], [0.0, 1 / 3, 1 / 3], [0.0, 1 / 3, 0.0]])

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


@patient
@given(architectures)
def test_json_round_trip(architecture: Architecture) -> None:
    text = architecture.to_json()
    for again in (Architecture.from_json(text), Architecture.from_json(json.loads(text))):
        assert again == architecture
        assert again.posterior == architecture.posterior
        assert again.source == architecture.source
        assert again.to_json() == text


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
        with pytest.raises(ArchitectureError, match=r"a\.json: not text in UTF-8: byte 0 is 0x89"):
            Architecture.load(tmp_path / "a.json")
        with pytest.raises(ArchitectureError, match="directory"):
            Architecture.load(tmp_path)

    def test_names_the_file_of_what_cannot_be_built_once(self, tmp_path: Path) -> None:
        Architecture.from_genotype(DARTS).save(tmp_path / "a.json")
        loaded = Architecture.load(tmp_path / "a.json")
        message = rf"^{tmp_path}/a\.json: cells: wrong$"
        with pytest.raises(ArchitectureError, match=message), loaded.naming_file(), loaded.naming_file():
            raise ArchitectureError("cells: wrong")

    def test_names_no_file_of_what_none_holds(self, tmp_path: Path) -> None:
        made = Architecture.from_genotype(DARTS)
        made.save(tmp_path / "a.json")
        changed = replace(Architecture.load(tmp_path / "a.json"), scope="node")
        for architecture in (made, changed):
            with pytest.raises(ArchitectureError, match=r"^cells: wrong$"), architecture.naming_file():
                raise ArchitectureError("cells: wrong")

    def test_names_the_file_that_it_cannot_write(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match=r"file/a\.json: cannot be written: File exists"):
            Architecture.from_genotype(DARTS).save(tmp_path / "file" / "a.json")

    def test_makes_the_folder_of_its_file(self, tmp_path: Path) -> None:
        kept = Architecture.from_genotype(DARTS)
        kept.save(tmp_path / "deep" / "down" / "a.json")
        assert Architecture.load(tmp_path / "deep" / "down" / "a.json") == kept

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
