"""The benchmarks' readers of NAS-Bench-Graph's table and of what its networks are."""

from __future__ import annotations

import pickle
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.graphs.architectures import LINKS, OPERATIONS, canonical, every, number
from benchmarks.graphs.plain_pickle import read_plain
from benchmarks.graphs.table import Table

from datanas.core.errors import DataError

BY_THE_PACKAGE = [
    ((0, 1, 2, 1), "gcn gin fc cheb", 61237),
    ((0, 0, 0, 0), "arma gat sage graph", 456),
    ((0, 0, 2, 3), "skip cheb skip gat", 88830),
    ((0, 1, 1, 3), "gcn skip sage arma", 61485),
    ((0, 1, 0, 3), "gat skip gcn skip", 78801),
    ((0, 1, 1, 1), "gcn skip skip fc", 51788),
    ((0, 0, 1, 2), "gin skip skip arma", 78825),
    ((0, 0, 0, 0), "skip skip gcn skip", 88881),
]
"""What `Arch(links, operations).valid_hash()` of nas-bench-graph 1.4.0 gives."""


@pytest.mark.parametrize(("links", "operations", "expected"), BY_THE_PACKAGE)
def test_the_number_is_that_of_the_package(links: tuple[int, ...], operations: str, expected: int) -> None:
    assert number(links, operations.split()) == expected


def test_the_canonical_form_is_its_own() -> None:
    for links, operations in islice(every(), 0, None, 37):
        found = canonical(links, operations)
        assert canonical(*found) == found


def test_renumbered_nodes_are_the_same_network() -> None:
    for names in product(("gat", "gcn", "fc"), repeat=4):
        a, b, c, d = names
        assert number((0, 0, 1, 2), names) == number((0, 0, 2, 1), (b, a, c, d)) == number((0, 1, 0, 3), (a, c, b, d))


def test_networks_that_differ_have_other_numbers() -> None:
    without_skip = [name for name in OPERATIONS if name != "skip"]
    chains = {number((0, 1, 2, 3), names) for names in product(without_skip, repeat=4)}
    assert len(chains) == 8**4
    assert len({number(links, ("gat", "gcn", "gin", "fc")) for links in LINKS}) == len(LINKS)


@pytest.mark.parametrize(
    ("links", "operations", "message"),
    [
        ((0, 1, 3, 0), ("gcn",) * 4, "links must be 4 numbers"),
        ((0, 1, 1), ("gcn",) * 4, "links must be 4 numbers"),
        ((0, 0, 0, 0), ("gcn", "conv", "gcn", "gcn"), "operations must be 4 of gat"),
    ],
)
def test_what_is_no_architecture_is_refused(links: Any, operations: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        number(links, operations)


class Harmful:
    def __reduce__(self) -> Any:
        return Path.write_text, (Path("harm"), "was done")


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.bench").write_bytes(pickle.dumps({0: Harmful()}))
    with pytest.raises(DataError, match=r"table\.bench: not a pickle of plain data"):
        read_plain(tmp_path / "table.bench")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({0: 1.0})[:-3]])
def test_a_damaged_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.bench").write_bytes(content)
    with pytest.raises(DataError, match="not a pickle of plain data"):
        read_plain(tmp_path / "table.bench")


ROWS = {
    456: (0.5, 0.40, 1.00),
    88881: (0.6, 0.70, 1.04),
    61237: (0.9, 0.80, 2.00),
    51788: (0.6, 0.50, 1.90),
}


def made_up(folder: Path) -> Table:
    rows = {
        key: {"valid_perf": valid, "perf": test, "latency": 0.1, "para": np.float64(size)}
        for key, (valid, test, size) in ROWS.items()
    }
    (folder / "made_up.bench").write_bytes(pickle.dumps(rows))
    return Table.load(folder / "made_up.bench")


def test_a_network_has_its_row(tmp_path: Path) -> None:
    table = made_up(tmp_path)
    row = table.row((0, 0, 0, 0), ("skip", "skip", "gcn", "skip"))
    assert (table.validation[row], table.test[row], table.parameters[row]) == ROWS[88881]
    assert table.percentile(row) == 75.0
    assert table.same_size(row) == pytest.approx((0.40 + 0.70) / 2)
    with pytest.raises(DataError, match="lacks"):
        table.row((0, 1, 2, 3), ("gat",) * 4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_best_of_some_is_the_mean_over_all_draws(tmp_path: Path, count: int) -> None:
    table = made_up(tmp_path)
    found = []
    for drawn in product(range(4), repeat=count):
        best = max(table.validation[row] for row in drawn)
        found.append(np.mean([table.test[row] for row in range(4) if table.validation[row] == best]))
    assert table.best_of(count) == pytest.approx(np.mean(found))


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.bench").write_bytes(pickle.dumps({0: {"perf": 0.5}}))
    with pytest.raises(DataError, match="not a table of NAS-Bench-Graph"):
        Table.load(tmp_path / "other.bench")
