"""One search step, dense as a textbook writes it against sparse: an alpha update and a weight update.

    python -m benchmarks.search_step                                            node scope, M = 4, exact
    python -m benchmarks.search_step --scope edge
    python -m benchmarks.search_step --gradient subsampled --share 0.25
    python -m benchmarks.search_step --scope edge --samples 1 --gradient sampled --cells 6     as GDAS lays it out

Dense runs every operation in contiguous layout with plain torch modules, and backward gives both updates all gradients,
as DARTS and the authors do it; `dense_frozen_s` spares it the weights' gradients in the alpha update. Both draw their
gates by the same sampler. Data are random: only time and memory are measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import textbook
from benchmarks.measuring import alternate, peak_gb, print_peak, report
from datanas.codes.architecture import CONV_PRIMITIVES
from datanas.core import seeding
from datanas.core.settings import validate
from datanas.engine.steps import UNSHARED, update, update_alpha
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import Gates, host_gates
from datanas.kernels.hardware import keep_freed_memory, move_to
from datanas.network import Supernet
from datanas.samplers import samplers
from datanas.samplers.base import Draw
from datanas.spaces.conv_body import reductions
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.tasks import tasks

CPU = torch.device("cpu")
CLIP = 5.0
PROGRESS = 0.5


class Search:
    """What both executions share: the data, the sampler and its optimiser."""

    def __init__(self, options: argparse.Namespace, primitives: Sequence[str] = CONV_PRIMITIVES) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        self.images = torch.randn(options.batch, 3, options.size, options.size)
        self.labels = torch.randint(10, (options.batch,))
        self.space = ConvCellSpace(
            ConvCellSpace.Config(cells=options.cells, channels=options.channels, primitives=tuple(primitives))
        )
        make = samplers["egs"]
        config = validate(make.Config, {"name": "egs", "samples": options.samples, "scope": options.scope}, "sampler")
        self.sampler = make(config, self.space.groups(), "conv_cell")
        self.alphas = list(self.sampler.parameters())
        self.alpha_optimizer = torch.optim.Adam(self.alphas, 3e-4, betas=(0.5, 0.999))
        self._draws = 0

    def draw(self) -> Draw:
        """The next draw of gates."""
        found: Draw = self.sampler.draw(PROGRESS, self.generator("gates"))
        return found

    def generator(self, stream: str) -> torch.Generator:
        self._draws += 1
        return seeding.generator(self.options.seed, stream, self._draws)


class SparseStep(Search):
    """The package's own step, its two updates apart."""

    def __init__(self, options: argparse.Namespace, primitives: Sequence[str] = CONV_PRIMITIVES) -> None:
        super().__init__(options, primitives)
        task = tasks["classification"]
        settings = validate(task.Config, {"name": "classification"}, "task")
        self.supernet = Supernet(
            self.space, task.stem(settings, 3, options.channels), lambda widths: task.head(settings, widths, 10)
        )
        move_to(self.supernet, CPU)
        self.weights = list(self.supernet.parameters())
        self.optimizer = sgd(self.supernet)
        self.images = self.images.contiguous(memory_format=torch.channels_last)

    def alpha_step(self) -> None:
        draw = self.draw()
        chance = self.generator("closed")
        gates = {
            name: group.with_grad(self.options.gradient, self.options.share, chance)
            for name, group in host_gates(draw.gates, CPU).items()
        }
        with frozen(self.weights):
            loss = self.sampler.loss(self._loss(gates), draw, PROGRESS)
            update_alpha(loss, self.alphas, self.alpha_optimizer, "alpha step", UNSHARED)

    def weight_step(self) -> dict[str, Tensor]:
        """Make it, and give the factors of the operations that ran."""
        with torch.no_grad():
            drawn = dict(self.draw().gates)
        update(self._loss(host_gates(drawn, CPU)), self.weights, self.optimizer, CLIP, "weight step")
        return drawn

    def both(self) -> None:
        self.alpha_step()
        self.weight_step()

    def _loss(self, gates: Mapping[str, Gates]) -> Tensor:
        return F.cross_entropy(self.supernet(self.images, gates), self.labels)


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)


def dense_step(options: argparse.Namespace, *, freeze: bool = False) -> Callable[[], None]:
    """The textbook's step."""
    search = Search(options)
    every = {kind: textbook.every_operation() for kind in ("normal", "reduce")}
    network = textbook.Network(
        every, options.channels, options.cells, sorted(reductions(options.cells)), searching=True
    )
    weights = list(network.parameters())
    optimizer = sgd(network)

    def loss_of(gates: Mapping[str, Tensor]) -> Tensor:
        factors = {kind: table[:, 1:].flatten() for kind, table in gates.items()}
        return F.cross_entropy(network(search.images, factors), search.labels)

    def step() -> None:
        draw = search.draw()
        with frozen(weights if freeze else []):
            loss = search.sampler.loss(loss_of(draw.gates), draw, PROGRESS)
            search.alpha_optimizer.zero_grad()
            loss.backward()
            search.alpha_optimizer.step()
        with torch.no_grad():
            gates = search.draw().gates
        optimizer.zero_grad()
        loss_of(gates).backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scope", choices=["node", "edge"], default="node")
    parser.add_argument("--samples", type=int, default=4, help="M")
    parser.add_argument("--gradient", choices=["exact", "subsampled", "sampled"], default="exact")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="of one step of each dense kind and six sparse ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", choices=["dense", "sparse"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.peak_of is not None:
        print_peak(dense_step(options) if options.peak_of == "dense" else SparseStep(options).both)
        return
    seconds = alternate(
        {
            "dense": (dense_step(options), 1),
            "dense, frozen": (dense_step(options, freeze=True), 1),
            "sparse": (SparseStep(options).both, 6),
        },
        options.rounds,
    )
    shape = [
        f"--{name}={getattr(options, name)}"
        for name in ("scope", "samples", "gradient", "share", "channels", "cells", "batch", "size", "threads", "seed")
    ]
    peaks = {kind: peak_gb("benchmarks.search_step", [*shape, f"--peak-of={kind}"]) for kind in ("dense", "sparse")}
    report(
        f"search step: {options.cells} cells, C = {options.channels}, batch {options.batch} of {options.size}x"
        f"{options.size}, medians of {options.rounds} rounds, seed {options.seed}",
        {
            "scope": options.scope,
            "M": options.samples,
            "gradient": options.gradient if options.gradient != "subsampled" else f"subsampled {options.share:g}",
            "dense_s": seconds["dense"],
            "dense_frozen_s": seconds["dense, frozen"],
            "sparse_s": seconds["sparse"],
            "ratio": seconds["dense"] / seconds["sparse"],
            "ratio_frozen": seconds["dense, frozen"] / seconds["sparse"],
            "dense_gb": peaks["dense"],
            "sparse_gb": peaks["sparse"],
        },
        options.json,
    )


if __name__ == "__main__":
    main()
