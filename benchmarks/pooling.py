"""`datanas.nn.EnsemblePooling` beside other poolings, in one network for graphs and one for images.

    python -m benchmarks.pooling --graphs MUTAG.txt --images cifar10_mini.npz --seeds 0 1 2 3 4

Graphs are split once, stratified, and images come split; a seed is that of weights and order. After each epoch nothing
is chosen: the figure is the test accuracy after the last one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.graphs import tu
from benchmarks.graphs.intervals import interval
from benchmarks.measuring import machine
from datanas.nn import EnsemblePooling

WIDTH, CLUSTERS = 32, 8


class Mean(nn.Module):
    size = WIDTH

    def forward(self, x: Tensor, mask: Tensor, adjacency: Tensor | None) -> Tensor:
        return (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


class Max(Mean):
    def forward(self, x: Tensor, mask: Tensor, adjacency: Tensor | None) -> Tensor:
        return x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)


class Attention(Mean):
    """The mean by a softmax over items (Li et al., ICLR 2016, without the gate of features)."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor, mask: Tensor, adjacency: Tensor | None) -> Tensor:
        weights = self.score(x).masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(1)
        return (weights * x).sum(1)


class Ensemble(nn.Module):
    """The clusters side by side."""

    size = WIDTH * CLUSTERS

    def __init__(self, samples: int, evaluation: Literal["expected", "likeliest"] = "expected") -> None:
        super().__init__()
        self.pool = EnsemblePooling(WIDTH, CLUSTERS, samples, evaluation=evaluation)

    def forward(self, x: Tensor, mask: Tensor, adjacency: Tensor | None) -> Tensor:
        found: Tensor = self.pool(x, mask=mask).features.flatten(1)
        return found


class Drawn(Ensemble):
    """As `Ensemble`, with codes that are drawn in evaluation too, as in training."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.pool.train()
        return self


class SoftAssignment(nn.Module):
    """As `Ensemble`, each item to every cluster by a softmax: what the codes are worth is the difference."""

    size = WIDTH * CLUSTERS

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Linear(WIDTH, CLUSTERS)

    def forward(self, x: Tensor, mask: Tensor, adjacency: Tensor | None) -> Tensor:
        weights = self.logits(x).softmax(-1) * mask.unsqueeze(-1)
        totals = weights.transpose(1, 2) @ x
        return (totals / weights.sum(1).clamp_min(1e-6).unsqueeze(-1)).flatten(1)


class DiffPool(Mean):
    """Soft clusters of a graph convolution, one more convolution among them, their mean (Ying et al., NeurIPS 2018).

    `extra` holds its two further losses of the last call: ||A - S S'||_F / nodes^2 and the mean entropy of S.
    """

    def __init__(self) -> None:
        super().__init__()
        self.assign, self.after = nn.Linear(WIDTH, CLUSTERS), nn.Linear(WIDTH, WIDTH)
        self.extra = torch.zeros(())

    def forward(self, x: Tensor, mask: Tensor, adjacency: Tensor | None) -> Tensor:
        assert adjacency is not None
        weights = (tu.normalised(adjacency) @ self.assign(x)).softmax(-1) * mask.unsqueeze(-1)
        link = (adjacency - weights @ weights.transpose(1, 2)).norm() / adjacency.numel()
        entropy = -(weights * (weights + 1e-15).log()).sum(-1).mean()
        self.extra = link + entropy
        clusters = weights.transpose(1, 2) @ x
        coarse = weights.transpose(1, 2) @ adjacency @ weights
        scale = coarse.sum(-1).clamp_min(1e-6).rsqrt()
        coarse = scale.unsqueeze(-1) * coarse * scale.unsqueeze(-2)
        return F.relu(self.after(coarse @ clusters + clusters)).mean(1)


POOLINGS: dict[str, Callable[[], Any]] = {
    "mean": Mean,
    "max": Max,
    "attention": Attention,
    "softmax to clusters": SoftAssignment,
    "EnsemblePooling, M = 1": lambda: Ensemble(1),
    "EnsemblePooling, M = 2": lambda: Ensemble(2),
    "EnsemblePooling, M = 1, likeliest": lambda: Ensemble(1, "likeliest"),
    "EnsemblePooling, M = 2, likeliest": lambda: Ensemble(2, "likeliest"),
    "EnsemblePooling, M = 1, drawn": lambda: Drawn(1),
    "EnsemblePooling, M = 2, drawn": lambda: Drawn(2),
    "DiffPool": DiffPool,
}


class GraphNetwork(nn.Module):
    def __init__(self, tags: int, classes: int, pool: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(tags, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.pool, self.head = pool, nn.Sequential(nn.Linear(pool.size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, classes))

    def forward(self, graphs: tu.Graphs) -> Tensor:
        x, near = graphs.x, tu.normalised(graphs.adjacency)
        for layer in self.layers:
            x = F.relu(near @ layer(x))
        found: Tensor = self.head(self.pool(x, graphs.mask, graphs.adjacency))
        return found


class ImageNetwork(nn.Module):
    def __init__(self, pool: Any) -> None:
        super().__init__()
        sizes = [(3, 16), (16, WIDTH), (WIDTH, WIDTH)]
        self.layers = nn.Sequential(
            *(
                part
                for i, o in sizes
                for part in (nn.Conv2d(i, o, 3, 2 if o != i else 1, 1), nn.BatchNorm2d(o), nn.ReLU())
            )
        )
        self.pool, self.head = pool, nn.Sequential(nn.Linear(pool.size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))

    def forward(self, images: Tensor) -> Tensor:
        x = self.layers(images).flatten(2).transpose(1, 2)
        found: Tensor = self.head(self.pool(x, torch.ones(x.shape[:2], dtype=torch.bool), None))
        return found


def fitted(network: Any, take: Callable[[Tensor], tuple[Any, Tensor]], train: Tensor, epochs: int, batch: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in train[torch.randperm(len(train))].split(batch):
            x, labels = take(index)
            optimizer.zero_grad()
            (F.cross_entropy(network(x), labels) + getattr(network.pool, "extra", 0.0)).backward()
            optimizer.step()


def accuracy(network: Any, take: Callable[[Tensor], tuple[Any, Tensor]], test: Tensor) -> float:
    network.eval()
    with torch.no_grad():
        right = sum(int((network(x).argmax(1) == labels).sum()) for x, labels in map(take, test.split(256)))
    return 100 * right / len(test)


def on_graphs(file: Path, epochs: int) -> Callable[[str, int], tuple[float, int]]:
    graphs = tu.load(file)
    order = np.arange(len(graphs.labels))
    train, test = map(torch.from_numpy, train_test_split(order, test_size=0.5, stratify=graphs.labels, random_state=0))

    def take(index: Tensor) -> tuple[tu.Graphs, Tensor]:
        found = graphs.of(index)
        return found, found.labels

    def run(name: str, seed: int) -> tuple[float, int]:
        torch.manual_seed(seed)
        network = GraphNetwork(graphs.x.shape[2], int(graphs.labels.max()) + 1, POOLINGS[name]())
        fitted(network, take, train, epochs, 16)
        return accuracy(network, take, test), sum(each.numel() for each in network.parameters())

    return run


def on_images(file: Path, epochs: int, examples: int) -> Callable[[str, int], tuple[float, int]]:
    with np.load(file) as arrays:
        x = torch.cat([torch.from_numpy(arrays[f"{part}_x"][:examples]) for part in ("train", "test")])
        y = torch.cat([torch.from_numpy(arrays[f"{part}_y"][:examples]).long() for part in ("train", "test")])
        first = len(arrays["train_y"][:examples])
    x = (x.permute(0, 3, 1, 2) if x.shape[-1] == 3 else x).float() / 128 - 1

    def run(name: str, seed: int) -> tuple[float, int]:
        torch.manual_seed(seed)
        network = ImageNetwork(POOLINGS[name]())
        fitted(network, lambda index: (x[index], y[index]), torch.arange(first), epochs, 64)
        right = accuracy(network, lambda index: (x[index], y[index]), torch.arange(first, len(x)))
        return right, sum(each.numel() for each in network.parameters())

    return run


def text_of(rows: dict[str, tuple[list[float], int]], base: str = "mean") -> str:
    lines = ["| pooling | parameters | test accuracy | less `mean` |", "|---|---|---|---|"]
    for name, (found, parameters) in rows.items():
        beside = (
            ""
            if name == base or base not in rows
            else interval([a - b for a, b in zip(found, rows[base][0], strict=True)])
        )
        lines.append(f"| {name} | {parameters:,} | {np.mean(found):.1f} | {beside} |")
    return "\n".join(lines)


def measured(run: Callable[[str, int], tuple[float, int]], names: Sequence[str], seeds: Sequence[int]) -> Any:
    rows: dict[str, tuple[list[float], int]] = {}
    for name in names:
        found = [run(name, seed) for seed in seeds]
        rows[name] = [value for value, _ in found], found[0][1]
        print(f"{name:24s} {rows[name]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, help="a collection in the text form of DGCNN")
    parser.add_argument("--images", type=Path, help="an .npz of train_x, train_y, test_x, test_y")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--graph-epochs", type=int, default=100)
    parser.add_argument("--image-epochs", type=int, default=4)
    parser.add_argument("--examples", type=int, default=1000, help="at most so many images of each part")
    parser.add_argument("--poolings", nargs="+", default=list(POOLINGS), choices=list(POOLINGS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    rows: dict[str, Any] = {}
    if options.graphs is not None:
        rows["graphs"] = measured(on_graphs(options.graphs, options.graph_epochs), options.poolings, options.seeds)
    if options.images is not None:
        names = [name for name in options.poolings if name != "DiffPool"]  # pixels have no edges
        rows["images"] = measured(
            on_images(options.images, options.image_epochs, options.examples), names, options.seeds
        )
    for name, found in rows.items():
        print(f"\n{name}\n{text_of(found)}")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
