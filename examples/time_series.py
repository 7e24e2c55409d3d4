"""A network for series: convolutions of three reaches, a recurrent layer, attention or nothing, block by block.

    python examples/time_series.py

The series are scikit-learn's handwritten digits read pixel by pixel, row after row, as one reads sequential MNIST (Le
et al., 2015): 1,797 series of 64 steps and one number a step, in ten classes. The first 1,200 are for training. What
is kept is trained from scratch beside random architectures of its size, in the same steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import count, islice

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import datanas

WIDTH, BLOCKS, BATCH, TRAIN = 24, 3, 64, 1200
Examples = tuple[Tensor, Tensor]


class Convolution(nn.Module):
    """Of a series (batch, steps, width) over its steps."""

    def __init__(self, size: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (size // 2)
        self.convolution = nn.Conv1d(WIDTH, WIDTH, size, padding=padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.convolution(x.transpose(1, 2)).transpose(1, 2))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.gru(x)[0]
        return found


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return found


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = datanas.Choice(
            {
                "conv3": Convolution(3),
                "conv9": Convolution(9),
                "every8th": Convolution(3, dilation=8),
                "gru": Recurrent(),
                "attention": Attention(),
                "skip": nn.Identity(),
            },
            samples=2,
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.mix(self.norm(x))
        return found


class SeriesNetwork(nn.Module):
    def __init__(self, steps: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.enter = nn.Linear(1, WIDTH)
        self.places = nn.Embedding(steps, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))

    def forward(self, series: Tensor) -> Tensor:
        x = self.enter(series[:, :, None]) + 0.1 * self.places.weight
        scores: Tensor = self.head(self.blocks(x).mean(1))
        return scores


def loss(network: nn.Module, examples: Examples) -> Tensor:
    picked = torch.randint(len(examples[1]), (BATCH,))
    return F.cross_entropy(network(examples[0][picked]), examples[1][picked])


def searched(module: nn.Module, train: Examples, steps: int, warm_up: int, seed: int) -> datanas.Search:
    """Weights learn on one half of the series, alphas on the other; before that weights alone, in uniform children.

    Without those first steps what learns fastest wins, be it a skip (docs/choice.md).
    """
    search = datanas.Search(module, seed=seed)
    weights = torch.optim.AdamW(search.weights, lr=3e-3)
    alphas = torch.optim.Adam(search.alphas, lr=0.03, betas=(0.5, 0.999))
    first, second = ((train[0][part::2], train[1][part::2]) for part in (0, 1))
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
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss(network, train).backward()
        optimizer.step(), optimizer.zero_grad(), schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, test: Examples) -> float:
    return float((network(test[0]).argmax(1) == test[1]).float().mean())


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def of_its_size(search: datanas.Search, kept: datanas.Architecture, seed: int) -> Iterator[datanas.Architecture]:
    """Random architectures whose networks have as many parameters, give or take a tenth."""
    size = parameters(search.network(kept))
    for number in count(1000 * seed):  # alphas that are drawn, not learned, have a likeliest architecture too
        drawn = datanas.Search(search.module, seed=number, sampler={"name": "egs", "init_std": 1.0}).derive()
        if drawn != kept and abs(parameters(search.network(drawn)) - size) <= size / 10:
            yield drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm-up", type=int, default=300, help="steps of weights before the search")
    parser.add_argument("--search-steps", type=int, default=300, help="of alphas and weights in turn")
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    parser.add_argument("--random", type=int, default=3, help="random architectures of its size to compare with")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    digits = load_digits()
    series, labels = torch.from_numpy(digits.data).float() / 8 - 1, torch.from_numpy(digits.target).long()
    train, test = ((series[part], labels[part]) for part in (slice(TRAIN), slice(TRAIN, None)))
    search = searched(SeriesNetwork(), train, options.search_steps, options.warm_up, options.seed)
    searched_one = search.derive()
    kept = {"searched": searched_one}
    for number, architecture in enumerate(islice(of_its_size(search, searched_one, options.seed), options.random)):
        kept[f"random {number}"] = architecture
    for name, architecture in kept.items():
        torch.manual_seed(options.seed)
        network = trained(search.network(architecture), train, options.steps)
        found = f"{accuracy(network, test):6.1%}  {parameters(network):7,} parameters"
        print(f"{name:9s} {found}  {text(architecture)}", flush=True)


def text(architecture: datanas.Architecture) -> str:
    return " ".join("+".join(each for each, _, _ in cell.operations()) for cell in architecture.cells.values())


if __name__ == "__main__":
    main()
