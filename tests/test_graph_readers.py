"""The benchmarks' readers of graphs, and the poolings that are compared."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import pooling
from benchmarks.graphs import tu
from benchmarks.graphs.intervals import interval
from scipy.sparse import csr_matrix

from datanas.core.errors import DataError

TWO_GRAPHS = "2\n3 1\n7 1 1\n5 2 0 2\n7 1 1\n2 -1\n5 1 1\n5 1 0\n"


def test_a_collection_of_graphs_is_read(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text(TWO_GRAPHS)
    found = tu.load(tmp_path / "two.txt")
    assert found.x.tolist() == [[[0, 1], [1, 0], [0, 1]], [[1, 0], [1, 0], [0, 0]]]
    assert found.adjacency.tolist() == [[[0, 1, 0], [1, 0, 1], [0, 1, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]]
    assert found.mask.tolist() == [[True, True, True], [True, True, False]]
    assert found.labels.tolist() == [1, 0]


@pytest.mark.parametrize("text", ["", "2\n3 1\n7 1 1\n", "two\n", "1\n1 0\n5\n"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "two.txt").write_text(text)
    with pytest.raises(DataError, match="not a collection of graphs"):
        tu.load(tmp_path / "two.txt")


def test_the_convolution_is_that_of_kipf_and_welling() -> None:
    adjacency = torch.tensor([[[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]])
    degree = torch.tensor([2.0, 3.0, 2.0])
    for a in range(3):
        for b in range(3):
            expected = (adjacency[0, a, b] + (a == b)) / (degree[a] * degree[b]).sqrt()
            torch.testing.assert_close(tu.normalised(adjacency)[0, a, b], expected)


@pytest.mark.parametrize("name", [name for name in pooling.POOLINGS if not name.endswith("drawn")])
def test_a_pooling_sees_no_padding_and_no_order(name: str) -> None:
    torch.manual_seed(0)
    pool = pooling.POOLINGS[name]().eval()
    x, near = torch.randn(2, 5, pooling.WIDTH), (torch.rand(2, 5, 5) > 0.5).float()
    near = ((near + near.transpose(1, 2)) > 0).float()
    mask = torch.ones(2, 5, dtype=torch.bool)
    expected = pool(x, mask, near)
    assert expected.shape == (2, pool.size)
    padded = torch.zeros(2, 7, pooling.WIDTH), torch.zeros(2, 7), torch.zeros(2, 7, 7)
    order = torch.tensor([3, 0, 4, 1, 2])
    padded[0][:, :5], padded[1][:, :5] = x[:, order], 1.0
    padded[2][:, :5, :5] = near[:, order][:, :, order]
    found = pool(padded[0], padded[1].bool(), padded[2])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_interval_is_student_s() -> None:
    assert interval([1.0, 2.0, 3.0]) == "+2.0 ± 2.5"  # 4.303 / sqrt(3)
    assert interval([-0.5]) == "-0.5"


def test_both_networks_are_trained_and_measured(tmp_path: Path) -> None:
    graph = TWO_GRAPHS.split("\n", 1)[1]
    (tmp_path / "many.txt").write_text("16\n" + graph * 8)
    rows = pooling.measured(pooling.on_graphs(tmp_path / "many.txt", 8), ["mean", "EnsemblePooling, M = 2"], [0])
    assert all(found == [100.0] for found, _ in rows.values())
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        labels = np.arange(32) % 2
        arrays |= {f"{part}_x": (labels[:, None, None, None] * np.full((32, 32, 32, 3), 200)).astype(np.uint8)}
        arrays |= {f"{part}_y": labels}
    np.savez(tmp_path / "images.npz", **arrays)
    rows = pooling.measured(pooling.on_images(tmp_path / "images.npz", 20, 32), ["mean"], [0])
    assert rows["mean"][0] == [100.0]
    assert "| mean | " in pooling.text_of(rows)


def test_a_citation_network_is_read(tmp_path: Path) -> None:
    """Nodes 5 and 7 are gaps among the test nodes: they have no features and are in no part."""
    pytest.importorskip("torch_geometric")
    from benchmarks.graphs import planetoid

    classes = np.eye(2, dtype=np.int32)
    known = csr_matrix(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 2]], np.float32))
    parts = {
        "y": classes[[0, 1, 0]],
        "allx": known,
        "ally": classes[[0, 1, 0, 1, 1]],
        "tx": csr_matrix(np.array([[0, 1, 1], [1, 0, 0]], np.float32)),
        "ty": classes[[1, 0]],
        "graph": {0: [1, 1, 8], 1: [0], 6: [6, 2]},
    }
    for part, content in parts.items():
        (tmp_path / f"ind.tiny.{part}").write_bytes(pickle.dumps(content))
    (tmp_path / "ind.tiny.test.index").write_text("8\n6\n")
    graph = planetoid.load(tmp_path, "tiny")
    rows = graph.features.to_dense()
    torch.testing.assert_close(rows[[0, 3, 4]], torch.tensor([[0.5, 0.5, 0], [1 / 3] * 3, [0, 0, 1]]))
    torch.testing.assert_close(rows[[6, 8]], torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]]))
    assert not rows[[5, 7]].any()
    assert sorted(zip(*graph.edges.tolist(), strict=True)) == [(0, 1), (0, 8), (1, 0), (2, 6), (6, 2), (8, 0)]
    assert graph.labels[[0, 1, 6, 8]].tolist() == [0, 1, 0, 1]
    assert (graph.train.tolist(), graph.validation.tolist(), graph.test.tolist()) == ([0, 1, 2], [3, 4], [6, 8])
