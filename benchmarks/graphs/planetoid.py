"""Citation networks in Planetoid's files, with its fixed parts (Yang, Cohen and Salakhutdinov, ICML 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from examples.graph_network import Graph
from scipy.sparse import csr_matrix, lil_matrix, vstack
from torch import Tensor

from benchmarks.graphs.plain_pickle import read_plain
from datanas.core.errors import DataError

VALIDATION = 500


def load(folder: Path, name: str) -> Graph:
    """One network: features of a row sum of 1, sparse; edges in both directions; the usual three parts.

    Citeseer's test nodes have gaps in their numbers; nodes in a gap have no features and no class and are in no part.

    Args:
        folder: with ind.NAME.x, tx, allx, y, ty, ally, graph, test.index.
        name: cora or citeseer.

    Raises:
        DataError: a file is missing or holds something else.
    """
    parts = {part: read_plain(folder / f"ind.{name}.{part}") for part in ("y", "tx", "allx", "ty", "ally", "graph")}
    index_file = folder / f"ind.{name}.test.index"
    try:
        test = np.loadtxt(index_file, dtype=np.int64)
    except (OSError, ValueError) as error:
        raise DataError(f"{index_file}: {error}") from None
    known, count = parts["allx"].shape[0], max(test.max(), parts["allx"].shape[0] - 1) + 1
    rest = lil_matrix((count - known, parts["allx"].shape[1]), dtype=np.float32)
    rest[test - known] = parts["tx"]
    classes = np.zeros((count, parts["ally"].shape[1]))
    classes[:known], classes[test] = parts["ally"], parts["ty"]
    start = len(parts["y"])
    return Graph(
        _rows_of_sum_1(csr_matrix(vstack([parts["allx"], rest]))),
        _edges(parts["graph"]),
        torch.from_numpy(classes.argmax(1)),
        torch.arange(start),
        torch.arange(start, min(start + VALIDATION, known)),
        torch.from_numpy(np.sort(test)),
    )


def _rows_of_sum_1(table: csr_matrix) -> Tensor:
    rows, columns = table.nonzero()
    sums = np.asarray(table.sum(1)).ravel()
    values = np.asarray(table[rows, columns]).ravel() / sums[rows]
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([rows, columns])).long(), torch.from_numpy(values).float(), table.shape
    ).coalesce()


def _edges(neighbours: dict[int, list[int]]) -> Tensor:
    pairs = {(a, b) for a, others in neighbours.items() for b in others if a != b}
    return torch.tensor(sorted(pairs | {(b, a) for a, b in pairs})).t().contiguous()
