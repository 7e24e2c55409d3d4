"""Bias and error of the cheaper alpha gradients, against the exact one of the same draws.

    python -m benchmarks.alpha_gradient --json FILE

A search on the embedded photographs (recipes/small/photos.yaml) runs for some steps. Then, for a number of draws and
batches, the gradient of every gate is computed once, exactly, and each kind of gradient is made of it, since what
`subsampled` and `sampled` leave out is only a mask on it. For each:

- bias: | mean over draws (estimate - exact) | / | mean over draws exact |, which no number of steps averages away;
- error: the root of mean | estimate - exact |^2 / mean | exact |^2, of a single step;
- cosine: between the estimate and the exact gradient, mean over draws.

What they cost is in `benchmarks.search_step`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import report
from datanas.core import seeding
from datanas.core.settings import read_yaml
from datanas.engine.config import resolve
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_task, select_device
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import ClosedGradient, Gates, host_gates
from datanas.samplers.base import Draw

KINDS: tuple[tuple[ClosedGradient, float], ...] = (("subsampled", 0.5), ("subsampled", 0.25), ("sampled", 0.0))
PROGRESS = 0.5


def searched(options: argparse.Namespace, folder: str) -> SearchJob:
    """A search after its first steps."""
    over = [("run.root", folder), ("device", "cpu"), ("seed", options.seed), ("sampler.samples", options.samples)]
    config = resolve(read_yaml(Path("recipes/small/photos.yaml")), [*over, ("search.alpha_start", 0.0)])
    job = SearchJob(config, load_task(config, select_device(config)), torch.device("cpu"))
    for step in range(options.steps):
        job.step(step)
    return job


def exact_gate_gradients(job: SearchJob, draw: Draw, number: int) -> dict[str, Tensor]:
    """The gradient of every gate, open or closed."""
    leaves = {name: values.detach().requires_grad_() for name, values in draw.gates.items()}
    with frozen(job.supernet.parameters()):
        loss = job.task.loss(job.supernet.child(host_gates(leaves, job.device)), job.task.batch("alpha", number))
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def into_alpha(job: SearchJob, draw: Draw, into_gates: Mapping[str, Tensor]) -> Tensor:
    """The gradient of alpha that gradients of the gates give, as one vector."""
    names = list(draw.gates)
    found = torch.autograd.grad(
        [draw.gates[name] for name in names],
        list(job.sampler.parameters()),
        [into_gates[name] for name in names],
        retain_graph=True,
    )
    return torch.cat([gradient.flatten() for gradient in found])


def masked(
    draw: Draw, into_gates: Mapping[str, Tensor], kind: ClosedGradient, share: float, chance: Any
) -> dict[str, Tensor]:
    found = {}
    for name, values in draw.gates.items():
        asked = Gates.of(values).with_grad(kind, share, chance).grad_mask
        found[name] = into_gates[name] * torch.tensor(asked, dtype=into_gates[name].dtype)
    return found


def compare(exact: Tensor, estimates: Tensor) -> dict[str, float]:
    """Figures from (draws, alphas) exact gradients and (masks, draws, alphas) estimates."""
    off = estimates - exact
    return {
        "bias": float(off.mean((0, 1)).norm() / exact.mean(0).norm()),
        "error": float((off.square().sum(2).mean() / exact.square().sum(1).mean()).sqrt()),
        "cosine": float(F.cosine_similarity(estimates, exact.expand_as(estimates), dim=2).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4, help="M")
    parser.add_argument("--steps", type=int, default=100, help="of the search, before anything is compared")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--masks", type=int, default=200, help="for each draw, where they are random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        job = searched(options, folder)
    exact: list[Tensor] = []
    estimates: dict[str, list[Tensor]] = {}
    for number in range(options.draws):
        draw = job.sampler.draw(PROGRESS, seeding.generator(options.seed, "compare", number))
        into_gates = exact_gate_gradients(job, draw, number)
        exact.append(into_alpha(job, draw, into_gates))
        chance = seeding.generator(options.seed, "masks", number)
        for kind, share in KINDS:
            name = kind if kind == "sampled" else f"{kind} {share:g}"
            masks = options.masks if kind == "subsampled" else 1
            each = [into_alpha(job, draw, masked(draw, into_gates, kind, share, chance)) for _ in range(masks)]
            estimates.setdefault(name, []).append(torch.stack(each))
    figures = {
        f"{name}, {figure}": value
        for name, found in estimates.items()
        for figure, value in compare(torch.stack(exact), torch.stack(found, dim=1)).items()
    }
    report(
        f"alpha gradients: M = {options.samples}, after {options.steps} steps, {options.draws} draws, seed "
        f"{options.seed}",
        figures,
        options.json,
    )


if __name__ == "__main__":
    main()
