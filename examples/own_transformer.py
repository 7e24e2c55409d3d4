"""A small vision transformer whose blocks are searched in a loop of one's own.

    python examples/own_transformer.py cifar10_mini.npz --epochs 20

The file holds images as `datanas` reads them: train_x, train_y, test_x, test_y. Each block chooses among attention,
convolution and passing on, how wide its perceptron is, and the network how many blocks it has.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import datanas

SIDE, WIDTH = 8, 32


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return found


class Convolution(nn.Module):
    """Of the tokens on their grid."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, size, padding=size // 2, groups=WIDTH), nn.BatchNorm2d(WIDTH), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        grid = x.transpose(1, 2).reshape(-1, WIDTH, SIDE, SIDE)
        found: Tensor = self.layers(grid).flatten(2).transpose(1, 2)
        return found


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix = datanas.Choice(
            {"attention": Attention(), "conv3": Convolution(3), "conv5": Convolution(5), "skip": nn.Identity()},
            samples=2,
        )
        perceptron = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))
        self.perceptron = datanas.ChoiceWidth(perceptron, widths=(16, 32, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norm1(x))
        found: Tensor = x + self.perceptron(self.norm2(x))
        return found


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.positions = nn.Embedding(SIDE * SIDE, WIDTH)
        self.blocks = datanas.ChoiceRepeat([Block() for _ in range(3)], counts=(1, 2, 3))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions.weight
        scores: Tensor = self.head(self.blocks(tokens).mean(1))
        return scores


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(part).argmax(1) for part in images.split(256)])
    network.train()
    return float((found == labels).float().mean())


def searched(module: nn.Module, images: Tensor, labels: Tensor, epochs: int, batch: int) -> datanas.Search:
    """Weights learn on one half of the images, alphas on the other."""
    search = datanas.Search(module, seed=0)
    weights = torch.optim.AdamW(search.weights, lr=1e-3)
    alphas = torch.optim.Adam(search.alphas, lr=1e-2, betas=(0.5, 0.999))
    half = len(images) // 2
    for _ in range(epochs):
        order = torch.randperm(half)
        for part in order.split(batch):
            with search.sample("alphas"):
                loss = F.cross_entropy(module(images[half + part]), labels[half + part])
                (loss + search.regulariser()).backward()
            alphas.step()
            alphas.zero_grad()
            with search.sample("weights"):
                F.cross_entropy(module(images[part]), labels[part]).backward()
            weights.step()
            weights.zero_grad()
    return search


def trained(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, batch: int) -> nn.Module:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(network(images[part]), labels[part]).backward()
            optimizer.step()
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--examples", type=int, help="take no more images than these")
    options = parser.parse_args()
    torch.manual_seed(0)
    with np.load(options.file) as arrays:
        images = [torch.from_numpy(arrays[f"{part}_x"][: options.examples]) for part in ("train", "test")]
        labels = [torch.from_numpy(arrays[f"{part}_y"][: options.examples]).long() for part in ("train", "test")]
    images = [(each.permute(0, 3, 1, 2) if each.shape[-1] == 3 else each).float() / 128 - 1 for each in images]
    search = searched(Transformer(), images[0], labels[0], options.epochs, options.batch)
    kept = search.derive()
    for name, cell in kept.cells.items():
        print(f"{name:24s} {' + '.join(operation for operation, _, _ in cell.operations())}")
    network = trained(search.network(kept), images[0], labels[0], options.epochs, options.batch)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{parameters:,} parameters, accuracy on the test part {accuracy(network, images[1], labels[1]):.1%}")


if __name__ == "__main__":
    main()
