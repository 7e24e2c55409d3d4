"""One search step of a recurrent cell, dense as a textbook writes it against sparse: an alpha and a weight update.

    python -m benchmarks.recurrent_step                        node scope, M = 3, exact
    python -m benchmarks.recurrent_step --scope edge
    python -m benchmarks.recurrent_step --gradient subsampled --share 0.25
    python -m benchmarks.recurrent_step --precision bfloat16

The sizes are DARTS': 10,000 words, 300 units, 256 columns of 35 steps. Dense runs every activation on every edge with
torch's own functions in float32, a node's edges stacked as DARTS does it, and holds the logits of the whole batch;
backward gives both updates all gradients. Both draw their gates by the same sampler. `precision` is that of the sparse
step's matrix products. Words are random: only time and memory count.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measuring import alternate, peak_gb, print_peak, report
from datanas.core import seeding
from datanas.core.settings import validate
from datanas.data.types.corpus import TextData
from datanas.engine.steps import UNSHARED, autocast, update, update_alpha
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import Gates, host_gates
from datanas.kernels.hardware import keep_freed_memory
from datanas.kernels.recurrence import RecurrentSteps
from datanas.network import Supernet
from datanas.samplers import samplers
from datanas.spaces.recurrent_cell import GROUP, RecurrentCellSpace
from datanas.tasks.language import Language
from datanas.tasks.word_model import WordStem

CPU = torch.device("cpu")
CLIP = 0.25
PROGRESS = 0.5


class Search:
    """What both executions share: text, supernet, sampler and optimisers."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        words = torch.randint(options.words, (2 * options.batch * (4 * options.steps + 1),))
        data = TextData(words, words[:100], words[:100], tuple(map(str, range(options.words))), {})
        self.task = Language(Language.Config(sequence=options.steps), data, CPU, options.seed)
        self.task.split_search("1:1", options.batch, None)
        self.space = RecurrentCellSpace(RecurrentCellSpace.Config(hidden=options.hidden))
        stem = self.task.make_stem(options.hidden)
        self.supernet = Supernet(self.space, stem, lambda widths: self.task.make_head(widths, stem))
        self.weights = list(self.supernet.parameters())
        self.optimizer = torch.optim.SGD(self.weights, 20.0, weight_decay=5e-7)
        make = samplers["egs"]
        config = validate(make.Config, {"name": "egs", "samples": options.samples, "scope": options.scope}, "sampler")
        self.sampler = make(config, self.space.groups(), "recurrent_cell")
        self.alphas = list(self.sampler.parameters())
        self.alpha_optimizer = torch.optim.Adam(self.alphas, 3e-3, betas=(0.5, 0.999))
        self._draws = self._steps = 0

    def generator(self, stream: str) -> torch.Generator:
        self._draws += 1
        return seeding.generator(self.options.seed, stream, self._draws)

    def sparse(self) -> None:
        """The package's own step."""
        draw = self.sampler.draw(PROGRESS, self.generator("gates"))
        chance = self.generator("closed")
        gates = {
            name: group.with_grad(self.options.gradient, self.options.share, chance)
            for name, group in host_gates(draw.gates, CPU).items()
        }
        with frozen(self.weights):
            loss = self.sampler.loss(self._loss(gates, "alpha"), draw, PROGRESS)
            update_alpha(loss, self.alphas, self.alpha_optimizer, "alpha step", UNSHARED)
        with torch.no_grad():
            drawn = dict(self.sampler.draw(PROGRESS, self.generator("gates")).gates)
        update(self._loss(host_gates(drawn, CPU), "weights"), self.weights, self.optimizer, CLIP, "weight step")
        self._steps += 1

    def _loss(self, gates: Mapping[str, Gates], part: str) -> Tensor:
        batch = self.task.batch(part, self._steps)  # type: ignore[arg-type]
        with autocast(CPU, self.options.precision):
            return self.task.loss(self.supernet.child(gates), batch)

    def dense(self) -> None:
        """The textbook's step."""
        draw = self.sampler.draw(PROGRESS, self.generator("gates"))
        self.alpha_optimizer.zero_grad()
        self.sampler.loss(self._dense_loss(draw.gates[GROUP], "alpha"), draw, PROGRESS).backward()
        self.alpha_optimizer.step()
        with torch.no_grad():
            gates = self.sampler.draw(PROGRESS, self.generator("gates")).gates[GROUP]
        self.optimizer.zero_grad()
        self._dense_loss(gates, "weights").backward()
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()
        self._steps += 1

    def _dense_loss(self, gates: Tensor, part: str) -> Tensor:
        batch = self.task.batch(part, self._steps)  # type: ignore[arg-type]
        stem, head = self.supernet.stem, self.supernet.head
        body: Any = self.supernet.body
        assert isinstance(stem, WordStem)
        inputs, _, mask = stem((batch.tokens, None))
        outputs = dense_states(body.steps, inputs, mask, gates)
        dropped = outputs * torch.empty_like(outputs[0]).bernoulli_(0.25).div_(0.25)
        log_probs = F.linear(dropped, stem.embedding.weight, head.get_parameter("bias")).log_softmax(dim=2)
        loss = F.nll_loss(log_probs.flatten(0, 1), batch.targets.flatten())
        return loss if part == "alpha" else loss + 1e-3 * outputs.diff(dim=0).square().mean()


def dense_states(cell: RecurrentSteps, inputs: Tensor, mask: Tensor, gates: Tensor) -> Tensor:
    """Every activation on every edge; the first column of the gates is `none`."""
    time, batch, width = inputs.shape
    hidden = inputs.new_zeros(batch, width)
    functions: list[Callable[[Tensor], Tensor]] = [torch.tanh, torch.relu, torch.sigmoid, lambda x: x]
    weights = torch.cat((cell.input, cell.recurrent))
    found = []
    for step in range(time):
        gate, wanted = (torch.cat((inputs[step], hidden * mask), dim=1) @ weights).chunk(2, dim=1)
        state = F.batch_norm(hidden + gate.sigmoid() * (wanted.tanh() - hidden), None, None, training=True)
        states, first = state[None], 0
        for count, weight in enumerate(cell.nodes.values(), start=1):
            given = (states * mask).view(-1, width).mm(weight).view(count, batch, -1)
            gate, wanted = given.chunk(2, dim=2)
            gate = gate.sigmoid()
            total = torch.zeros_like(state)
            for column, function in enumerate(functions, start=1):
                term = states + gate * (function(wanted) - states)
                total = total + (gates[first : first + count, column, None, None] * term).sum(dim=0)
            states = torch.cat((states, F.batch_norm(total, None, None, training=True)[None]))
            first += count
        hidden = states[1:].mean(dim=0)
        found.append(hidden)
    return torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scope", choices=["node", "edge"], default="node")
    parser.add_argument("--samples", type=int, default=3, help="M")
    parser.add_argument("--gradient", choices=["exact", "subsampled", "sampled"], default="exact")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--rounds", type=int, default=3, help="of one dense step and three sparse ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", choices=["dense", "sparse"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.peak_of is not None:
        search = Search(options)
        print_peak(search.dense if options.peak_of == "dense" else search.sparse)
        return
    seconds = alternate({"dense": (Search(options).dense, 1), "sparse": (Search(options).sparse, 3)}, options.rounds)
    names = (
        "scope",
        "samples",
        "gradient",
        "share",
        "precision",
        "words",
        "hidden",
        "batch",
        "steps",
        "threads",
        "seed",
    )
    shape = [f"--{name}={getattr(options, name)}" for name in names]
    peaks = {kind: peak_gb("benchmarks.recurrent_step", [*shape, f"--peak-of={kind}"]) for kind in ("dense", "sparse")}
    report(
        f"search step: {options.words} words, {options.hidden} units, {options.batch} columns of {options.steps} "
        f"steps, medians of {options.rounds} rounds, seed {options.seed}",
        {
            "scope": options.scope,
            "M": options.samples,
            "gradient": options.gradient if options.gradient != "subsampled" else f"subsampled {options.share:g}",
            "precision": options.precision,
            "dense_s": seconds["dense"],
            "sparse_s": seconds["sparse"],
            "ratio": seconds["dense"] / seconds["sparse"],
            "dense_gb": peaks["dense"],
            "sparse_gb": peaks["sparse"],
            "ratio_gb": peaks["dense"] / peaks["sparse"],
        },
        options.json,
    )


if __name__ == "__main__":
    main()
