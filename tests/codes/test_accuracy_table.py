from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datanas.codes.accuracy_table import AccuracyTable
from datanas.codes.architecture import Architecture
from datanas.codes.benchmark_text import BENCHMARK_PRIMITIVES, print_operations
from datanas.codes.cell import Cell
from datanas.core.errors import ArchitectureError, DataError

OPS = ("none", "skip_connect", "nor_conv_3x3")
CELLS = [print_operations(operations) for operations in product(OPS, repeat=3)]
ACCURACIES = np.random.default_rng(0).uniform(10, 95, len(CELLS)).round(3)


def lines() -> list[str]:
    return ["architecture,acc,ms", *(f"{cell},{ACCURACIES[i]},{i}" for i, cell in enumerate(CELLS))]


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    codes = np.array(list(product(range(3), repeat=3)), np.uint8)
    found: dict[str, Any] = {"ops": codes, "op_names": np.array(OPS), "edges": np.array([[0, 1], [0, 2], [1, 2]])}
    found |= {"test_acc": rng.random((27, 2)).astype(np.float32), "datasets": np.array(["one", "two"])}
    return found | {"params": np.arange(27), "latency_ms": rng.random((27, 4)), "devices": np.array(["x"] * 4)}


def write_csv(folder: Path, content: list[str]) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(content) + "\n", encoding="utf-8")
    return path


def write_npz(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "table.npz"
    np.savez(path, **content)
    return path


@pytest.fixture
def table(tmp_path: Path) -> AccuracyTable:
    return AccuracyTable.load(write_csv(tmp_path, lines()), OPS)


def architecture(text: str, **settings: Any) -> Architecture:
    return Architecture.from_genotype(text, **settings)


def test_a_csv_table_knows_every_cell(table: AccuracyTable) -> None:
    assert list(table.metrics) == ["acc", "ms"]
    assert table.default_metric == "acc"
    for row in (0, 5, 26):
        assert table.row(architecture(CELLS[row])) == row
        assert table.string(row) == CELLS[row]
        assert table.value(architecture(CELLS[row]), "acc") == ACCURACIES[row]


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    header, *rows = lines()
    table = AccuracyTable.load(write_csv(tmp_path, [header, *reversed(rows)]), OPS)
    assert table.row(architecture(CELLS[3])) == 23
    assert table.value(architecture(CELLS[3]), "acc") == ACCURACIES[3]


def test_an_npz_table_has_accuracies_first(tmp_path: Path) -> None:
    content = arrays()
    table = AccuracyTable.load(write_npz(tmp_path, content), OPS)
    assert list(table.metrics) == ["test_acc/one", "test_acc/two", "params"]
    assert table.value(architecture(CELLS[7]), "test_acc/two") == content["test_acc"][7, 1]
    assert table.value(architecture(CELLS[7]), "params") == 7


def test_the_numbers_of_operations_are_those_of_the_space(tmp_path: Path) -> None:
    """A file may list its operations in another order; columns of `probs` follow the space."""
    content = arrays()
    order = [2, 0, 1]
    content["op_names"] = content["op_names"][order]
    content["ops"] = np.argsort(order)[content["ops"]]
    table = AccuracyTable.load(write_npz(tmp_path, content), OPS)
    assert table.string(7) == CELLS[7]
    np.testing.assert_array_equal(table.codes[7], arrays()["ops"][7])


def test_expected_is_the_sum_over_all_cells(table: AccuracyTable) -> None:
    probs = np.random.default_rng(3).random((3, 3))
    shares = probs / probs.sum(axis=1, keepdims=True)
    brute = sum(
        acc * np.prod([shares[edge, op] for edge, op in enumerate(code)])
        for acc, code in zip(ACCURACIES, product(range(3), repeat=3), strict=True)
    )
    assert table.expected(probs, "acc") == pytest.approx(brute, rel=1e-13)
    assert table.expected(np.full((3, 3), 0.2), "acc") == pytest.approx(ACCURACIES.mean(), rel=1e-13)


@pytest.mark.parametrize("row", [0, 11, 26])
def test_a_certain_choice_has_its_own_value(table: AccuracyTable, row: int) -> None:
    assert table.expected(np.eye(3)[table.codes[row]], "acc") == ACCURACIES[row]


def set_row(value: float) -> np.ndarray:
    probs = np.full((3, 3), 0.5)
    probs[1] = value
    return probs


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (np.ones((3, 2)), r"shape \(3, 3\), got \(3, 2\)"),
        (np.ones(9), "shape"),
        (set_row(-0.1), "not negative"),
        (set_row(np.nan), "finite"),
        (set_row(np.inf), "finite"),
        (set_row(0.0), "positive, finite sum"),
    ],
)
def test_bad_probabilities_are_refused(table: AccuracyTable, probs: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.expected(probs, "acc")


def test_ties_count_in_full(tmp_path: Path) -> None:
    content = ["architecture,acc", *(f"{cell},{min(i, 24)}" for i, cell in enumerate(CELLS))]
    table = AccuracyTable.load(write_csv(tmp_path, content), OPS)
    assert table.percentile(24, "acc") == 100
    assert table.percentile(23, "acc") == pytest.approx(100 * 24 / 27)
    assert table.percentile(-1, "acc") == 0
    assert table.percentile(0, "acc") == pytest.approx(100 / 27)


def test_the_truth_about_an_architecture(table: AccuracyTable) -> None:
    best = int(ACCURACIES.argmax())
    truth = table.truth(architecture(CELLS[best]), np.eye(3)[table.codes[4]])
    assert (truth.metric, truth.value, truth.best) == ("acc", ACCURACIES.max(), ACCURACIES.max())
    assert truth.percentile == 100
    assert truth.expected == ACCURACIES[4]
    assert table.truth(architecture(CELLS[4]), metric="ms").value == 4
    assert table.truth(architecture(CELLS[4])).expected is None


def several() -> Architecture:
    cell = architecture(CELLS[0], primitives=OPS).cells["cell"]
    return Architecture({"cell": Cell(OPS, cell.edges, (2,), np.ones((3, 3), np.uint8), 1)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (architecture("|none~0|"), "cells of 3 edges, got 1"),
        (architecture("|none~0|+|none~0|nor_conv_1x1~1|"), "knows no 'nor_conv_1x1'; did you mean 'nor_conv_3x3'"),
        (Architecture({"normal": architecture(CELLS[0]).cells["cell"]}), "one named 'cell', got normal"),
        (architecture(CELLS[26], scope="node", aggregate="mean"), "nodes that are sums, got mean"),
        (several(), "one operation an edge"),
    ],
)
def test_an_architecture_of_another_space_is_refused(table: AccuracyTable, given: Architecture, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        table.row(given)


def test_an_unknown_metric_is_named_with_its_neighbour(table: AccuracyTable) -> None:
    with pytest.raises(DataError, match="no metric 'accu'; did you mean 'acc'"):
        table.best("accu")


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_a_gap_in_a_further_metric_is_refused_when_it_is_asked_for(tmp_path: Path, value: str) -> None:
    content = lines()
    content[3] = f"{CELLS[2]},50,{value}"
    table = AccuracyTable.load(write_csv(tmp_path, content), OPS)
    assert table.value(architecture(CELLS[2]), "acc") == 50
    with pytest.raises(DataError, match=r"ms is not known for 1 cells: it is .* for \|none~0\|\+\|none~0\|nor_conv"):
        table.value(architecture(CELLS[0]), "ms")


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


def with_entry(name: str, place: Any, value: float) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("edges"), "array 'edges' is missing; there are"),
        (lambda content: content.pop("test_acc"), "array 'test_acc' is missing"),
        (changed("op_names", np.array(OPS, object)), "not an .npz archive of plain arrays"),
        (changed("op_names", np.array(["none", "skip_conect", "nor_conv_3x3"])), "did you mean 'skip_connect'"),
        (
            changed("op_names", np.array(["none", "none", "nor_conv_3x3"])),
            "each of none, skip_connect, nor_conv_3x3 once",
        ),
        (changed("ops", np.zeros(27, np.uint8)), r"ops must hold whole numbers in 2 dimensions, got uint8 of shape"),
        (changed("ops", np.zeros((27, 3))), "ops must hold whole numbers"),
        (changed("ops", np.zeros((27, 2), np.uint8)), "got 2 columns"),
        (with_entry("ops", (3, 1), 9), r"entries 0\.\.2, .* up to 9"),
        (changed("edges", np.array([[0, 1], [1, 2], [0, 2]])), "edges must be all"),
        (changed("edges", np.array([[0, 1, 2]])), "edges must be all"),
        (changed("test_acc", np.zeros((26, 2))), r"test_acc must have shape \(27, 2\)"),
        (changed("datasets", np.array([1, 2])), "datasets must hold names"),
        (with_entry("test_acc", (5, 1), np.nan), r"test_acc/two is not known for 1 cells: it is nan for \|none~0\|"),
        (with_entry("test_acc", (5, 1), np.inf), "it is inf for"),
        (with_entry("ops", (4,), 0), r"\|none~0\|\+\|none~0\|none~1\| is in rows 0 and 4"),
    ],
)
def test_a_bad_archive_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    content = arrays()
    change(content)
    path = write_npz(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        AccuracyTable.load(path, OPS)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 8


def test_missing_cells_are_counted_and_one_is_named(tmp_path: Path) -> None:
    content = arrays()
    for name in ("ops", "test_acc", "params"):
        content[name] = np.delete(content[name], [7, 26], axis=0)
    with pytest.raises(DataError) as caught:
        AccuracyTable.load(write_npz(tmp_path, content), OPS)
    assert f"2 of 27 cells are missing, such as {CELLS[7]}" in str(caught.value)


@pytest.mark.parametrize("left", [0, 1, 26])
def test_the_last_cell_may_be_the_missing_one(tmp_path: Path, left: int) -> None:
    content = lines()[: left + 1]
    message = (
        "holds a header and no cells" if left == 0 else f"{27 - left} of 27 cells are missing, such as {CELLS[left]}"
    )
    with pytest.raises(DataError) as caught:
        AccuracyTable.load(write_csv(tmp_path, content), OPS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, "cell,acc,ms", "must begin with the line `architecture,<metric>"),
        (0, "architecture", "must begin with the line"),
        (0, "architecture,acc,acc", "each column needs a name of its own, got 'acc'"),
        (0, "architecture,acc,", "each column needs a name of its own, got ''"),
        (4, f"{CELLS[3]},5x,3", "line 5: acc must be a number, got '5x'"),
        (4, f"{CELLS[3]},,3", "line 5: acc must be a number, got ''"),
        (4, f"{CELLS[3]},5", "line 5: must have 3 entries, got 2"),
        (4, "", "line 5: must have 3 entries, got 0"),
        (4, f"{CELLS[3]},nan,3", "acc is not known for 1 cells: it is nan"),
        (4, "|none~0|+|none~0|,5,3", "line 5: node 2: input 1 is missing"),
        (4, "|none~0|,5,3", "line 5: this cell has 1 edges, the first 3"),
        (4, "|none~0|+|skip~0|none~1|,5,3", "line 5: unknown operation 'skip'; did you mean 'skip_connect'"),
        (4, f"{CELLS[6]},5,3", "is in rows 5 and 8"),
        (4, f'"{CELLS[3]},5,3', "not CSV"),
    ],
)
def test_a_bad_csv_file_is_refused(tmp_path: Path, line: int, text: str, message: str) -> None:
    content = lines()
    content[line] = text
    with pytest.raises(DataError, match=message):
        AccuracyTable.load(write_csv(tmp_path, content), OPS)


class Trap:
    """Unpickling it would be seen."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"PK nothing", "not an .npz archive"),
        ("a.npz", b"", "not an .npz archive"),
        ("a.csv", b"", "must begin with the line"),
        ("a.csv", b"\xff\xfe\x00", "neither an .npz archive nor CSV"),
        ("a.pkl", pickle.dumps({"a": 1}), "neither an .npz archive nor CSV"),
        ("a.csv", b"architecture,acc\n\x00,3\n", "line 2"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        AccuracyTable.load(tmp_path / name, OPS)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: No such file"):
        AccuracyTable.load(tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="directory"):
        AccuracyTable.load(tmp_path)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="allow_pickle=False"):
        AccuracyTable.load(write_npz(tmp_path, arrays() | {"extra": np.array([Trap()], object)}), OPS)


def test_a_damaged_or_foreign_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(write_npz(tmp_path, arrays()).read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"not an \.npz archive of plain arrays"):
        AccuracyTable.load(tmp_path / "damaged.npz", OPS)
    with zipfile.ZipFile(tmp_path / "foreign.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="array 'ops' is missing; there are none"):
        AccuracyTable.load(tmp_path / "foreign.npz", OPS)


def test_the_operations_are_the_benchmark_s_unless_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="op_names must be each of none, skip_connect, nor_conv_1x1"):
        AccuracyTable.load(write_npz(tmp_path, arrays()))
    assert len(BENCHMARK_PRIMITIVES) == 5
