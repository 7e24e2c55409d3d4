"""One search step of a module with choices against one of the built-in space of the same operations.

    python -m benchmarks.choice_step
    python -m benchmarks.choice_step --channels 16 --cells 8 --batch 64

Both are the cells of DARTS with the same weights, and are given the same children: in the built-in space an edge is a
row of its node's gates, in the module it is a `datanas.Choice` of the same operations. Data are random: only time is
measured, in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measuring import alternate, report
from benchmarks.search_step import Search, SparseStep, sgd
from datanas.blocks.choice import Choice
from datanas.blocks.found import Blocks
from datanas.codes.architecture import CONV_PRIMITIVES
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import keep_freed_memory
from datanas.kernels.mixed import MixedNode

PRIMITIVES = tuple(name for name in CONV_PRIMITIVES if name != "none")


class ChoiceNode(nn.Module):
    """A node of a cell as a user would write it: the sum over its edges of a choice on each.

    Args:
        node: the built-in node, whose operations it takes.
        kind: of its cell.
    """

    def __init__(self, node: MixedNode, kind: str) -> None:
        super().__init__()
        self.sources: list[int] = []
        self.edges = nn.ModuleList()
        by_edge: dict[tuple[int, int], dict[str, nn.Module]] = {}
        for candidate in node._candidates:
            operations = by_edge.setdefault((candidate.edge, candidate.source), {})
            operations[PRIMITIVES[candidate.op]] = candidate.operation
        for (edge, source), operations in by_edge.items():
            self.sources.append(source)
            self.edges.append(Choice(operations, name=f"{kind}{edge}"))

    def forward(self, states: Sequence[Tensor], gates: object = None, shared: object = None) -> Tensor:
        first, *rest = [choice(states[source]) for choice, source in zip(self.edges, self.sources, strict=True)]
        total: Tensor = sum(rest, first)
        return total


class ChoiceStep(SparseStep):
    """The built-in supernet with a choice in place of every edge."""

    def __init__(self, options: argparse.Namespace, primitives: Sequence[str] = PRIMITIVES) -> None:
        super().__init__(options, primitives)
        self.supernet = deepcopy(self.supernet)
        body: Any = self.supernet.body
        kinds = body._kinds
        for cell, kind in zip(body.cells, kinds, strict=True):
            for name, node in list(cell.nodes.items()):
                cell.nodes[name] = ChoiceNode(node, kind)
        self.blocks = Blocks.of(self.supernet)
        self.weights = list(self.supernet.parameters())
        self.optimizer = sgd(self.supernet)

    def _loss(self, gates: Mapping[str, Gates]) -> Tensor:
        rows = {
            f"{kind}{edge}": replace(group, values=group.values[edge : edge + 1], host=group.host[edge : edge + 1])
            for kind, group in gates.items()
            for edge in range(len(group.host))
        }
        with self.blocks.running(rows):
            return F.cross_entropy(self.supernet(self.images, gates), self.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--samples", type=int, default=2, help="M of every edge")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    options.scope, options.gradient, options.share = "edge", "exact", 1.0
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    steps: dict[str, Search] = {
        "built_in": SparseStep(options, PRIMITIVES),
        "choices": ChoiceStep(options, PRIMITIVES),
    }
    calls = {
        f"{name}_{part}_s": (getattr(step, f"{part}_step"), 2)
        for name, step in steps.items()
        for part in ("alpha", "weight")
    }
    found = alternate(calls, options.rounds)
    built_in, choices = (found[f"{name}_alpha_s"] + found[f"{name}_weight_s"] for name in steps)
    figures = {"M": options.samples, **found, "built_in_s": built_in, "choices_s": choices, "ratio": choices / built_in}
    report("a search step: an alpha update and a weight update", figures, options.json)


if __name__ == "__main__":
    main()
