"""The graph network of the examples, against PyTorch Geometric's layers put together by hand."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.graphs.architectures import canonical
from torch import Tensor

import datanas
from datanas.blocks.found import Blocks
from datanas.codes.architecture import Architecture
from datanas.kernels.gates import Gates
from datanas.kernels.switch import plain_kernels

pytest.importorskip("torch_geometric")

from examples import graph_network
from examples.graph_network import Graph, GraphNetwork, likeliest, searched


def ring(nodes: int = 24, features: int = 5) -> Graph:
    generator = torch.Generator().manual_seed(0)
    around = torch.arange(nodes)
    edges = torch.stack([around, (around + 1) % nodes])
    x = torch.randn(nodes, features, generator=generator)
    parts = torch.randperm(nodes, generator=generator).chunk(3)
    return Graph(x, torch.cat([edges, edges.flip(0)], 1), (x.sum(1) > 0).long(), *parts)


def kept(search: datanas.Search, links: Any, operations: Any) -> Architecture:
    """The architecture with these links and operations, found by making them certain."""
    chosen = {f"link{at}": str(link) for at, link in enumerate(links, 1)}
    chosen |= {f"node{at}": name for at, name in enumerate(operations, 1)}
    alpha: Any = search.sampler.alpha
    with torch.no_grad():
        for name, choice in chosen.items():
            names = list(search.probabilities()[name])
            alpha[name].zero_()
            alpha[name][..., names.index(choice)] = 50.0
    return search.derive()


def by_hand(module: GraphNetwork, graph: Graph, links: Any, operations: Any) -> Tensor:
    """Only what no node reads reaches the output."""
    states = [module.before(graph.features)]
    for choice, link, name in zip(module.nodes, links, operations, strict=True):
        parts: Any = choice.candidates
        states.append(states[link] if name == "skip" else parts[name](states[link], graph.edges))
    total: Tensor = module.bias.shift
    for node in set(range(1, 5)) - set(links):
        total = total + module.leaves[node - 1](states[node])
    return total


@pytest.mark.parametrize("links", list(product((0,), (0, 1), (0, 2), (0, 1, 3))))
def test_child_and_rebuilt_network_are_the_one_put_together_by_hand(links: tuple[int, ...]) -> None:
    graph = ring()
    module = GraphNetwork(5, 2, width=4, dropout=0.0).double()
    graph = Graph(graph.features.double(), graph.edges, graph.labels, graph.train, graph.validation, graph.test)
    search = datanas.Search(module, seed=0)
    operations = ("gat", "gcn", "skip", "cheb")
    found = kept(search, links, operations)
    assert likeliest(search) == (links, operations)
    expected = by_hand(module, graph, links, operations)
    with search.running(found):
        torch.testing.assert_close(module(graph.features, graph.edges), expected, rtol=1e-9, atol=1e-9)
    network = search.network(found, weights=True)
    torch.testing.assert_close(network(graph.features, graph.edges), expected, rtol=1e-9, atol=1e-9)


def test_a_link_that_another_could_take_gets_its_exact_gradient() -> None:
    """Which nodes are leaves is part of what a link changes; the textbook runs every candidate."""
    graph = ring()
    torch.manual_seed(0)
    module = GraphNetwork(5, 2, width=4, dropout=0.0).double()
    graph = Graph(graph.features.double(), graph.edges, graph.labels, graph.train, graph.validation, graph.test)
    found = []
    for plain in (False, True):
        search = datanas.Search(module, seed=3)
        with search.sample("alphas"):
            if plain:
                with plain_kernels():
                    graph_network.loss(module, graph, graph.validation).backward()
            else:
                graph_network.loss(module, graph, graph.validation).backward()
        found.append({name: parameter.grad for name, parameter in search.sampler.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-6, atol=1e-9)
    assert any(name.endswith("link4") and bool(gradient.abs().max() > 0) for name, gradient in found[0].items())


def test_a_link_s_gradient_is_the_slope_of_the_loss() -> None:
    torch.manual_seed(0)
    module, graph = GraphNetwork(5, 2, width=4, dropout=0.0).double(), ring()
    graph = replace(graph, features=graph.features.double())
    blocks = Blocks.of(module)

    def of(link4: list[float]) -> tuple[Tensor, Tensor]:
        gates: dict[str, Any] = {}
        for name, block in blocks.items():
            row = link4 if name == "link4" else [1.0] + [0.0] * (len(block.primitives) - 1)
            values = torch.tensor([row], dtype=torch.double, requires_grad=True)
            gates[name] = replace(Gates.of(values), values=values)
        with blocks.running(gates):
            value = graph_network.loss(module, graph, graph.train)
            (slopes,) = torch.autograd.grad(value, gates["link4"].values)
        return value.detach(), slopes[0]

    _, slopes = of([0.25, 0.25, 0.25, 0.25])
    for at in range(4):
        near = [[0.25 + sign * 1e-5 * (at == other) for other in range(4)] for sign in (1, -1)]
        expected = (of(near[0])[0] - of(near[1])[0]) / 2e-5
        torch.testing.assert_close(slopes[at], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("links", "operations", "parameters"),
    [
        ((0, 1, 2, 1), "gcn gin fc cheb", 958479),
        ((0, 0, 0, 0), "arma gat sage graph", 1011727),
        ((0, 0, 2, 3), "skip cheb skip gat", 923791),
        ((0, 1, 0, 3), "gat skip gcn skip", 909327),
    ],
)
def test_its_size_is_that_in_the_table_of_coauthor_cs(links: tuple[int, ...], operations: str, parameters: int) -> None:
    """There the table's networks have a projection too. They count four batch norms, and no weights of inner nodes."""
    features, classes, width = 6805, 15, 128
    search = datanas.Search(GraphNetwork(features, classes, width), seed=0)
    found, names = canonical(links, operations.split())
    network = search.network(kept(search, found, names), weights=True)
    inner = len(set(found) - {0})
    size = sum(parameter.numel() for parameter in network.parameters()) - inner * width * classes + 4 * 2 * width
    assert size == parameters


def test_a_search_is_a_function_of_its_seed() -> None:
    def found() -> list[Any]:
        torch.manual_seed(0)
        search = searched(GraphNetwork(5, 2, width=4), ring(), 3, seed=1, warm_up=2)
        return [search.probabilities(), likeliest(search)]

    assert found() == found()


@pytest.mark.parametrize(("part", "counts"), [("test", False), ("validation", True), ("train", True)])
def test_the_labels_of_test_nodes_are_not_read(part: str, counts: bool) -> None:
    def found(graph: Graph) -> Any:
        torch.manual_seed(0)
        return searched(GraphNetwork(5, 2, width=4), graph, 3, seed=1, warm_up=2).probabilities()

    graph = ring()
    labels = graph.labels.clone()
    labels[getattr(graph, part)] = 1 - labels[getattr(graph, part)]
    assert (found(graph) != found(replace(graph, labels=labels))) == counts


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    graph = ring()
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(graph).items()}
    np.savez(tmp_path / "graph.npz", **arrays)
    command = ["graph_network.py", str(tmp_path / "graph.npz"), "--steps", "2", "--width", "4"]
    monkeypatch.setattr(sys, "argv", command)
    graph_network.main()
    shown = capsys.readouterr().out
    assert re.search(r"^node4 +\w+$", shown, re.MULTILINE)
    assert re.search(r"parameters, accuracy on the test part \d+\.\d%", shown)
