"""A graph network whose wiring and message passing are searched in a loop of one's own.

    python examples/graph_network.py graph.npz --steps 200

The file holds one graph whose nodes have classes: `features` (nodes, features), `edges` (2, edges) with each edge in
both directions, `labels` (nodes,), and the nodes of each part, `train`, `validation` and `test`. It needs PyTorch
Geometric: pip install 'datanas[graph]'.

The space is that of NAS-Bench-Graph (Qin et al., NeurIPS 2022): four nodes, each of which reads one earlier tensor and
holds one of nine operations; what no other node reads is put side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import ARMAConv, ChebConv, GATConv, GCNConv, GINConv, GraphConv, SAGEConv

import datanas

OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
NODES = 4


@dataclass(frozen=True)
class Graph:
    """One graph, and which of its nodes are whose.

    Attributes:
        features: (nodes, features), dense or sparse.
        edges: (2, edges), from and to.
        labels: (nodes,).
        train, validation, test: numbers of nodes.
    """

    features: Tensor
    edges: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor


def operation(name: str, width: int) -> nn.Module:
    makers: dict[str, Any] = {
        "gat": lambda: GATConv(width, width // 2, heads=2),
        "gcn": lambda: GCNConv(width, width),
        "gin": lambda: GINConv(nn.Linear(width, width)),
        "cheb": lambda: ChebConv(width, width, K=2),
        "sage": lambda: SAGEConv(width, width),
        "arma": lambda: ARMAConv(width, width),
        "graph": lambda: GraphConv(width, width),
        "fc": lambda: nn.Linear(width, width),
    }
    made: nn.Module = makers[name]()
    return made


class Layer(nn.Module):
    """One operation and ReLU."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.reads_edges = name != "fc"
        self.operation = operation(name, width)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return F.relu(self.operation(x, edges) if self.reads_edges else self.operation(x))


class Skip(nn.Module):
    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return x


class Projection(nn.Linear):
    """A linear map of features that may be sparse."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(x, self.weight.t()) + self.bias if x.is_sparse else super().forward(x)


class GraphNetwork(nn.Module):
    """The space: a projection to `width`, the nodes, and classes from what no node reads.

    Args:
        features, classes: of the graph.
        width: of every tensor in between.
        dropout: of what the nodes are given.
        samples: M of each node's operations. A node always reads one tensor.
    """

    def __init__(
        self, features: int, classes: int, width: int = 32, dropout: float = 0.5, samples: int | None = 1
    ) -> None:
        super().__init__()
        self.before = nn.Sequential(Projection(features, width), nn.Dropout(dropout))
        self.reads = nn.ModuleList(
            datanas.ChoiceInput([str(tensor) for tensor in range(node)], samples=1, name=f"link{node}")
            for node in range(1, NODES + 1)
        )
        self.nodes = nn.ModuleList(
            datanas.Choice(
                {each: Skip() if each == "skip" else Layer(each, width) for each in OPERATIONS},
                samples=samples,
                combine="mean",
                name=f"node{node}",
            )
            for node in range(1, NODES + 1)
        )
        self.leaves = nn.ModuleList(nn.Linear(width, classes, bias=False) for _ in range(NODES))
        self.bias = Shift(classes)

    def forward(self, features: Tensor, edges: Tensor) -> Tensor:
        # With each tensor goes a row that says which it is. So what is read tells which nodes are leaves, with a
        # gradient for what the links change about that.
        x = self.before(features)
        names = torch.eye(NODES + 1).to(x)
        states = [(x, names[0])]
        is_leaf = names.new_ones(NODES + 1)
        for node, (reads, choice) in enumerate(zip(self.reads, self.nodes, strict=True), 1):
            x, name = reads(states)
            is_leaf = is_leaf * (1 - name)
            states.append((choice(x, edges), names[node]))
        outputs = [leaf(x) for leaf, (x, _) in zip(self.leaves, states[1:], strict=True)]
        found: Tensor = self.bias((torch.stack(outputs, -1) * is_leaf[1:]).sum(-1))
        return found


class Shift(nn.Module):
    """What is added to every node's scores."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(classes))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def accuracy(network: nn.Module, graph: Graph, nodes: Tensor) -> float:
    network.eval()
    with torch.no_grad():
        found = network(graph.features, graph.edges)[nodes].argmax(1)
    network.train()
    return float((found == graph.labels[nodes]).float().mean())


def loss(network: nn.Module, graph: Graph, nodes: Tensor) -> Tensor:
    return F.cross_entropy(network(graph.features, graph.edges)[nodes], graph.labels[nodes])


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, weight_decay=5e-4)


def searched(
    module: nn.Module,
    graph: Graph,
    steps: int,
    seed: int = 0,
    *,
    warm_up: int = 0,
    sampler: Any = None,
    alpha_lr: float = 0.1,
) -> datanas.Search:
    """Weights learn on the training nodes, alphas on those of the validation part; the test part is not touched.

    Args:
        steps: an update of alphas and one of weights each.
        warm_up: updates of weights before that, with children drawn uniformly.
    """
    search = datanas.Search(module, seed=seed, sampler=sampler)
    weights = adam(search.weights)
    alphas = torch.optim.Adam(search.alphas, lr=alpha_lr, betas=(0.5, 0.999))
    for step in range(-warm_up, steps):
        search.progress = max(step, 0) / max(steps, 1)
        if step >= 0:
            with search.sample("alphas"):
                (loss(module, graph, graph.validation) + search.regulariser()).backward()
            alphas.step()
            alphas.zero_grad()
        with search.sample("weights", uniform=step < 0):
            loss(module, graph, graph.train).backward()
        weights.step()
        weights.zero_grad()
    return search


def likeliest(search: datanas.Search) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The tensor that each node likeliest reads, and its likeliest operation: what M = 1 would keep."""
    best = {name: max(probs, key=lambda each: probs[each]) for name, probs in search.probabilities().items()}
    nodes = range(1, NODES + 1)
    return tuple(int(best[f"link{node}"]) for node in nodes), tuple(best[f"node{node}"] for node in nodes)


def trained(network: nn.Module, graph: Graph, steps: int) -> nn.Module:
    optimizer = adam(network.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network, graph, graph.train).backward()
        optimizer.step()
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    with np.load(options.file) as arrays:
        graph = Graph(
            torch.from_numpy(arrays["features"]).float(),
            *(torch.from_numpy(arrays[name]).long() for name in ("edges", "labels", "train", "validation", "test")),
        )
    module = GraphNetwork(graph.features.shape[1], int(graph.labels.max()) + 1, options.width)
    search = searched(module, graph, options.steps, options.seed, warm_up=options.steps)
    kept = search.derive()
    for name, cell in kept.cells.items():
        print(f"{name:8s} {' + '.join(operation for operation, _, _ in cell.operations())}")
    network = trained(search.network(kept), graph, options.steps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{parameters:,} parameters, accuracy on the test part {accuracy(network, graph, graph.test):.1%}")


if __name__ == "__main__":
    main()
