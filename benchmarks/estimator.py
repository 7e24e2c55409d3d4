"""Ensemble Gumbel-Softmax: its speed, and bias and variance of the estimators of its gradient.

    python -m benchmarks.estimator --json FILE

Speed: codes and gradients of 10,000 edges with K = 8 and M = 7, against a loop over M with torch's gumbel_softmax.

Bias and variance: of the gradient of an expected loss with respect to log p, on codes of K = 5 operations. They can all
be enumerated, so that Eq. 15 gives the exact gradient. Losses are a linear function of the code and a random two-layer
network of the code over its sum, as an edge of a supernet is. Everything is relative to the squared norm of the exact
gradient and averaged over random problems. `score_function` is REINFORCE with the exact mean as its baseline: unbiased,
and needs no gradient of the loss.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import alternate, machine, report
from datanas.egs import Estimator, ensemble_gumbel_softmax
from datanas.posterior import log_prob

Loss = Callable[[Tensor], Tensor]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
OPS = 5


def codes() -> Tensor:
    """Every code but the empty one."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=OPS))[1:], dtype=torch.double)


def linear_loss(generator: torch.Generator) -> Loss:
    direction = torch.randn(OPS, dtype=torch.double, generator=generator)
    return lambda code: code @ direction


def network_loss(generator: torch.Generator) -> Loss:
    first = 2 * torch.randn(OPS, 16, dtype=torch.double, generator=generator)
    second = torch.randn(16, dtype=torch.double, generator=generator)
    return lambda code: (code / code.sum(-1, keepdim=True) @ first).tanh() @ second


LOSSES: dict[str, Callable[[torch.Generator], Loss]] = {"linear": linear_loss, "network": network_loss}


def exact_gradient(logits: Tensor, samples: int, loss: Loss) -> tuple[Tensor, Tensor]:
    """(gradient, mean loss) by enumeration (Eq. 15)."""
    logits = logits.clone().requires_grad_()
    every = codes()
    chances = log_prob(every, logits.softmax(0).expand_as(every), samples).exp()
    expected = (chances * loss(every)).sum()
    return torch.autograd.grad(expected, logits)[0], expected.detach()


def estimates(
    name: str,
    logits: Tensor,
    samples: int,
    tau: float,
    loss: Loss,
    mean: Tensor,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """(draws, K): one gradient of each draw."""
    rows = logits.expand(draws, OPS).clone().requires_grad_()
    if name == "score_function":
        code = ensemble_gumbel_softmax(rows, samples, generator=generator).detach()
        surrogate = (loss(code) - mean) * log_prob(code, rows.softmax(-1), samples)
    else:
        chosen: Estimator = next(known for known in ESTIMATORS if known == name)
        surrogate = loss(ensemble_gumbel_softmax(rows, samples, tau, generator=generator, estimator=chosen))
    return torch.autograd.grad(surrogate.sum(), rows)[0]


def quality(options: argparse.Namespace, kind: str, samples: int, spread: float) -> dict[str, tuple[float, float]]:
    """By estimator, mean relative squared bias and variance over the problems."""
    found: dict[str, list[tuple[float, float]]] = {}
    for problem in range(options.problems):
        generator = torch.Generator().manual_seed(options.seed * 1000 + problem)
        loss = LOSSES[kind](generator)
        logits = spread * torch.randn(OPS, dtype=torch.double, generator=generator)
        exact, mean = exact_gradient(logits, samples, loss)
        scale = exact.square().sum()
        for name in (*ESTIMATORS, "score_function"):
            each = estimates(name, logits, samples, options.tau, loss, mean, options.draws, generator)
            variance = each.var(0).sum()
            # The mean of n draws is off by variance / n even without a bias.
            bias = ((each.mean(0) - exact).square().sum() - variance / options.draws).clamp_min(0)
            found.setdefault(name, []).append((float(bias / scale), float(variance / scale)))
    return {
        name: (statistics.median(bias for bias, _ in pairs), statistics.median(variance for _, variance in pairs))
        for name, pairs in found.items()
    }


def speed(edges: int, ops: int, samples: int) -> dict[str, float]:
    """Milliseconds for codes and gradients, by estimator and of the loop."""
    logits = torch.randn(edges, ops, requires_grad=True)
    upstream = torch.randn(edges, ops)

    def ensemble(name: Estimator) -> None:
        torch.autograd.grad(ensemble_gumbel_softmax(logits, samples, estimator=name), logits, upstream)

    def loop() -> None:
        code = F.gumbel_softmax(logits, hard=True)
        for _ in range(samples - 1):
            code = torch.maximum(code, F.gumbel_softmax(logits, hard=True))
        torch.autograd.grad(code, logits, upstream)

    calls: dict[str, tuple[Callable[[], object], int]] = {"loop": (loop, 30)}
    calls |= {name: (partial(ensemble, name), 30) for name in ESTIMATORS}
    return {name: 1000 * found for name, found in alternate(calls, 3).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10000)
    parser.add_argument("--problems", type=int, default=15)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 2, 4, 7])
    parser.add_argument("--tau", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, float] = {f"{name}_ms": value for name, value in speed(10_000, 8, 7).items()}
    figures["loop_ratio"] = figures["loop_ms"] / figures["shared_ties_ms"]
    print(machine())
    print("squared bias + variance = mean squared error, relative to the squared exact gradient; medians over problems")
    for kind, samples, spread in itertools.product(LOSSES, options.samples, (0.0, 1.0, 2.0)):
        print(f"{kind} loss, M = {samples}, logits of deviation {spread:g}")
        for name, (bias, variance) in quality(options, kind, samples, spread).items():
            print(f"  {name:16s} {bias:9.3f} + {variance:9.3f} = {bias + variance:9.3f}", flush=True)
            figures[f"{kind} M={samples} spread={spread:g} {name} bias"] = bias
            figures[f"{kind} M={samples} spread={spread:g} {name} variance"] = variance
    print("geometric mean over the settings of the network loss")
    for name in (*ESTIMATORS, "score_function"):
        errors = [
            figures[f"network M={samples} spread={spread:g} {name} bias"]
            + figures[f"network M={samples} spread={spread:g} {name} variance"]
            for samples, spread in itertools.product(options.samples, (0.0, 1.0, 2.0))
        ]
        figures[f"{name}_mse"] = statistics.geometric_mean(errors)
        print(f"  {name:16s} {figures[f'{name}_mse']:9.3f}")
    report(
        "estimators", {name: value for name, value in figures.items() if name.endswith(("_ms", "_ratio", "_mse"))}, None
    )
    if options.json is not None:
        report("", figures, options.json)


if __name__ == "__main__":
    main()
