"""Collections of small graphs with a class each, in the text form of DGCNN (Zhang et al., AAAI 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datanas.core.errors import DataError


@dataclass(frozen=True)
class Graphs:
    """Graphs as tables of equal size.

    Attributes:
        x: (graphs, nodes, tags), the tag of each node as a row with one 1; zeros where there is no node.
        adjacency: (graphs, nodes, nodes).
        mask: (graphs, nodes), where there is a node.
        labels: (graphs,).
    """

    x: Tensor
    adjacency: Tensor
    mask: Tensor
    labels: Tensor

    def of(self, index: Tensor) -> Graphs:
        return Graphs(self.x[index], self.adjacency[index], self.mask[index], self.labels[index])


def load(file: Path) -> Graphs:
    """Read a collection: how many graphs; for each `nodes label`, and a line `tag count neighbour ...` for each node.

    Raises:
        DataError: the file is missing or is none.
    """
    try:
        words = iter(file.read_text(encoding="ascii").split("\n"))
        counts, labels, tags, links = [], [], [], []
        for number in range(int(next(words))):
            nodes, label = map(int, next(words).split())
            counts.append(nodes)
            labels.append(label)
            for node in range(nodes):
                tag, count, *rest = next(words).split()
                tags.append((number, node, int(tag)))
                links += [(number, node, int(other)) for other in rest[: int(count)]]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
    except (ValueError, StopIteration):
        raise DataError(f"{file}: not a collection of graphs in the text form of DGCNN") from None
    size = max(counts)
    known = sorted({tag for _, _, tag in tags})
    x = torch.zeros(len(counts), size, len(known))
    adjacency = torch.zeros(len(counts), size, size)
    for graph, node, kind in tags:
        x[graph, node, known.index(kind)] = 1.0
    if links:
        adjacency[tuple(torch.tensor(links).t())] = 1.0
    mask = torch.arange(size) < torch.tensor(counts).unsqueeze(1)
    classes = sorted(set(labels))
    return Graphs(x, adjacency, mask, torch.tensor([classes.index(label) for label in labels]))


def normalised(adjacency: Tensor) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of each graph (Kipf and Welling, ICLR 2017)."""
    found = adjacency + torch.eye(adjacency.shape[-1])
    scale = found.sum(-1).rsqrt()
    return scale.unsqueeze(-1) * found * scale.unsqueeze(-2)
