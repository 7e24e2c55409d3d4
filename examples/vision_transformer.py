"""A vision transformer on CIFAR-10: what mixes the tokens, in how many heads, and how wide each perceptron is.

    python examples/vision_transformer.py cifar10.npz --images 10000

Each of four blocks chooses among attention of 1, 4 or 8 heads and a depthwise convolution of the grid of patches, of
which it may add up two, and the ratio of its perceptron's width to its own: 1, 2 or 4. What is kept is then trained
from scratch beside random architectures, in the same steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import datanas
from datanas.data.sets.cifar10 import Cifar10

WIDTH, PATCH, BLOCKS, BATCH = 32, 4, 4, 64
Examples = tuple[Tensor, Tensor]


class Attention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return found


class Depthwise(nn.Module):
    """A convolution of the tokens on their square grid."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        side = int(x.shape[1] ** 0.5)
        grid = x.transpose(1, 2).unflatten(2, (side, side))
        found: Tensor = self.mix(F.gelu(self.convolution(grid).flatten(2).transpose(1, 2)))
        return found


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mix = datanas.Choice(
            {"heads1": Attention(1), "heads4": Attention(4), "heads8": Attention(8), "depthwise": Depthwise()},
            samples=2,
        )
        perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.perceptron = datanas.ChoiceWidth(perceptron, widths=(WIDTH, 2 * WIDTH, 4 * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norms[0](x))
        found: Tensor = x + self.perceptron(self.norms[1](x))
        return found


class VisionTransformer(nn.Module):
    def __init__(self, side: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.places = nn.Embedding((side // PATCH) ** 2, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + 0.1 * self.places.weight
        scores: Tensor = self.head(self.blocks(tokens).mean(1))
        return scores


def batch(examples: Examples) -> Examples:
    picked = torch.randint(len(examples[1]), (BATCH,))
    return examples[0][picked], examples[1][picked]


def loss(network: nn.Module, examples: Examples) -> Tensor:
    images, labels = batch(examples)
    return F.cross_entropy(network(images), labels)


def searched(module: nn.Module, train: Examples, steps: int, warm_up: int, seed: int) -> datanas.Search:
    """Weights learn on one half of the images, alphas on the other; before that weights alone, in uniform children.

    Without those first steps what learns fastest wins, be it a skip (docs/choice.md).
    """
    search = datanas.Search(module, seed=seed)
    weights = torch.optim.AdamW(search.weights, lr=2e-3)
    alphas = torch.optim.Adam(search.alphas, lr=0.03, betas=(0.5, 0.999))
    half = len(train[1]) // 2
    first, second = ((train[0][part], train[1][part]) for part in (slice(half), slice(half, None)))
    for step in range(-warm_up, steps):
        search.progress = max(step, 0) / steps
        if step >= 0:
            with search.sample("alphas"):
                (loss(module, second) + search.regulariser()).backward()
            alphas.step(), alphas.zero_grad()
        with search.sample("weights", uniform=step < 0):
            loss(module, first).backward()
        weights.step(), weights.zero_grad()
    return search


def trained(network: nn.Module, train: Examples, steps: int) -> nn.Module:
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss(network, train).backward()
        optimizer.step(), optimizer.zero_grad(), schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, test: Examples) -> float:
    found = torch.cat([network(images).argmax(1) for images in test[0].split(500)])
    return float((found == test[1]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder or file of CIFAR-10, as datanas reads it")
    parser.add_argument("--images", type=int, help="train on no more than these")
    parser.add_argument("--warm-up", type=int, default=150, help="steps of weights before the search")
    parser.add_argument("--search-steps", type=int, default=150, help="of alphas and weights in turn")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--random", type=int, default=3, help="random architectures to compare with")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    data = Cifar10(Cifar10.Config(root=options.root, train_images=options.images)).load()
    train, test = ((part.images.float() / 128 - 1, part.labels) for part in (data.train, data.test))
    search = searched(VisionTransformer(), train, options.search_steps, options.warm_up, options.seed)
    kept = {"searched": search.derive()}
    for number in range(options.random):  # alphas that are drawn, not learned, have a likeliest architecture too
        drawn = datanas.Search(
            search.module, seed=1000 * options.seed + number, sampler={"name": "egs", "init_std": 1.0}
        )
        kept[f"random {number}"] = drawn.derive()
    for name, architecture in kept.items():
        torch.manual_seed(options.seed)
        network = trained(search.network(architecture), train, options.steps)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        print(f"{name:9s} {accuracy(network, test):6.1%}  {parameters:7,} parameters  {text(architecture)}", flush=True)


def text(architecture: datanas.Architecture) -> str:
    return " ".join("+".join(each for each, _, _ in cell.operations()) for cell in architecture.cells.values())


if __name__ == "__main__":
    main()
