"""What a search step of a whole network takes as its choices grow, against a training step of one child.

    python -m benchmarks.choices_scaling
    python -m benchmarks.choices_scaling --layers 8 20 60 --samples 2 --dense

The space is `mobile` with three stages. The search step is an alpha update and a weight update, with the exact gradient
of every gate; the child is the network of the operations that are open in it, rebuilt and trained by itself. `--dense`
adds the search step that runs every operation. Times are taken in turn, memory in a process of its own each, without
what the process held before anything was built. Data are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.measuring import alternate, machine, peak_gb, report
from benchmarks.search_step import CLIP, CPU, PROGRESS, sgd
from datanas.core import seeding
from datanas.core.settings import validate
from datanas.engine.steps import UNSHARED, update, update_alpha
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import host_gates
from datanas.kernels.hardware import forget_peak_memory, keep_freed_memory, move_to, peak_memory
from datanas.network import Supernet, rebuild_network
from datanas.samplers import samplers
from datanas.samplers.derivation import assemble
from datanas.spaces.layered import LayeredConfig
from datanas.spaces.mobile import MobileSpace
from datanas.tasks import tasks

FEATURES = 128
KINDS = ("search", "child", "dense")


class Steps:
    """A search of one number of layers, which draws the same child in every step, and that child by itself."""

    def __init__(self, options: argparse.Namespace, layers: int) -> None:
        torch.manual_seed(options.seed)
        self.seed = options.seed
        self.images = torch.randn(options.batch, 3, options.size, options.size)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (options.batch,))
        first, second = layers // 3, (layers - layers // 3) // 2
        config = MobileSpace.Config(
            channels=options.channels,
            layers=(first, second, layers - first - second),
            widths=(1, 2, 4),
            strides=(1, 2, 2),
            features=FEATURES,
            several=True,
        )
        self.space = MobileSpace(config)
        egs = samplers["egs"]
        settings = validate(egs.Config, {"name": "egs", "samples": options.samples}, "sampler")
        self.sampler: Any = egs(settings, self.space.groups(), self.space.name)
        self.channels = options.channels

    def _around(self) -> tuple[Any, Any]:
        task = tasks["classification"]
        settings = validate(task.Config, {"name": "classification", "stem": "plain"}, "task")
        return task.stem(settings, 3, self.channels), lambda widths: task.head(settings, widths, 10)

    def _draw(self) -> Any:
        return self.sampler.draw(PROGRESS, seeding.generator(self.seed, "gates"))

    def search(self, *, dense: bool = False) -> Callable[[], None]:
        """An alpha update and a weight update."""
        stem, head = self._around()
        supernet = move_to(Supernet(self.space, stem, head), CPU)
        weights, alphas = list(supernet.parameters()), list(self.sampler.parameters())
        optimizer, alpha_optimizer = sgd(supernet), torch.optim.Adam(alphas, 3e-4)

        def step() -> None:
            draw = self._draw()
            with frozen(weights):
                gates = host_gates(draw.gates, CPU, dense=dense)
                loss = F.cross_entropy(supernet(self.images, gates), self.labels)
                update_alpha(self.sampler.loss(loss, draw, PROGRESS), alphas, alpha_optimizer, "alpha step", UNSHARED)
            with torch.no_grad():
                gates = host_gates(self._draw().gates, CPU, dense=dense)
            loss = F.cross_entropy(supernet(self.images, gates), self.labels)
            update(loss, weights, optimizer, CLIP, "weight step")

        return step

    def child(self) -> Callable[[], None]:
        """A training step of the network that is drawn."""
        codes = {name: (gates.detach() != 0).float() for name, gates in self._draw().gates.items()}
        architecture = assemble(codes, self.space.groups(), space=self.space.name, aggregate="mean")
        stem, head = self._around()
        settings = LayeredConfig(channels=self.channels, features=FEATURES)
        network = move_to(rebuild_network(architecture, stem, head, settings), CPU)
        weights, optimizer = list(network.parameters()), sgd(network)

        def step() -> None:
            update(F.cross_entropy(network(self.images), self.labels), weights, optimizer, CLIP, "training step")

        return step

    def of(self, kind: str) -> Callable[[], None]:
        """The step of a kind."""
        return self.child() if kind == "child" else self.search(dense=kind == "dense")


def print_added(options: argparse.Namespace) -> None:
    """Print the peak memory in GB that building and running adds to what libraries hold."""
    Steps(options, 3).child()()  # what a first step loads
    forget_peak_memory(CPU)
    before = peak_memory(CPU)
    step = Steps(options, options.layers[0]).of(options.peak_of)
    for _ in range(3):
        step()
    print((peak_memory(CPU) - before) / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 20, 60])
    parser.add_argument("--samples", type=int, default=1, help="M")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dense", action="store_true", help="measure the step that runs everything, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--peak-of", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.peak_of is not None:
        print_added(options)
        return
    kinds = KINDS if options.dense else KINDS[:2]
    names = ("samples", "channels", "batch", "size", "threads", "seed")
    shape = [f"--{name}={getattr(options, name)}" for name in names]
    figures: dict[str, Any] = {"M": options.samples}
    print(machine())
    for layers in options.layers:
        steps = Steps(options, layers)
        seconds = alternate({kind: (steps.of(kind), 1) for kind in kinds}, options.rounds)
        sizes = {
            kind: peak_gb("benchmarks.choices_scaling", [*shape, f"--layers={layers}", f"--peak-of={kind}"])
            for kind in kinds
        }
        for kind in kinds:
            figures |= {f"{layers}_{kind}_s": seconds[kind], f"{layers}_{kind}_gb": sizes[kind]}
        figures[f"{layers}_time_ratio"] = seconds["search"] / seconds["child"]
        figures[f"{layers}_memory_ratio"] = sizes["search"] / sizes["child"]
        print(layers, {name: f"{value:.4g}" for name, value in figures.items() if name.startswith(f"{layers}_")})
    report("search step of whole networks against a training step of the child", figures, options.json)


if __name__ == "__main__":
    main()
