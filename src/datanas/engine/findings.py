"""What a search would keep: along the way and at the end, what it costs, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.codes.liveness import live_cell
from datanas.core import seeding
from datanas.engine.budget import Budget, noted
from datanas.engine.collapse import collapse, inspect, is_collapsed
from datanas.engine.config import Config
from datanas.engine.selection import rank_architectures
from datanas.engine.timed_latency import latency_clock
from datanas.engine.within_budget import derive_within
from datanas.network import Supernet
from datanas.runs.heat_map import HeatMap
from datanas.samplers.derivation import Derivation
from datanas.samplers.interface import BaseSampler
from datanas.spaces.base import Costs, Space
from datanas.tasks.base import Task

MODES_FILE = "modes.json"
"""Where, inside its folder, a search keeps the architectures that it would have kept on the way."""
MODE_SHARES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the search after which that is noted."""
_ROUNDING = 1e-9
_REMEDY = (
    "What helps: all the data in few epochs instead of few data many times (--search.epochs, --search.examples), or a "
    "choice among trained candidates: datanas race"
)


class Findings:
    """What a sampler has found in its space, for a configuration and, where there is one, within a budget.

    Attributes:
        modes: what would have been kept after each of `MODE_SHARES`, as plain data.
    """

    def __init__(self, config: Config, space: Space, sampler: BaseSampler, budget: Budget | None = None) -> None:
        self._config, self._space, self._sampler, self._budget = config, space, sampler, budget
        self.modes: list[dict[str, Any]] = []

    def note_mode(self, reached: float) -> None:
        """Keep what would be derived now, where another share of the search has been reached."""
        left = MODE_SHARES[len(self.modes) :]
        passed = sum(share <= reached + _ROUNDING for share in left)
        if passed and self._sampler.learns:
            mode = derive_within(self._sampler, self._space, self._budget, is_final=False).architecture
            entry = {"share": reached, "architecture": json.loads(mode.to_json())}
            self.modes += [entry] * passed

    def interim(self) -> Derivation:
        """What would be kept now, without asking the supernet."""
        if self._budget is None or self._sampler.rule == "best_sample":
            return self._sampler.derive()
        return derive_within(self._sampler, self._space, self._budget, is_final=False)

    def choose(self, supernet: Supernet, task: Task[Any], device: torch.device, n: int = 1) -> Derivation:
        """What the sampler's rule keeps, and the `n` best or likeliest; `best_sample` asks the supernet."""
        sampler = self._sampler
        if sampler.rule != "best_sample":
            clock = latency_clock(self._budget, lambda: device, task.processes)
            return derive_within(sampler, self._space, self._budget, n, clock=clock)
        count, seed = sampler.derivation.candidates, self._config.seed
        candidates = sampler.candidates(count, seeding.generator(seed, "candidates"))
        if self._budget is not None:
            candidates = self._budget.allowed(candidates)
        settings = self._config.search.gap
        ranking = rank_architectures(candidates, supernet, task, settings, device=device, seed=seed, n=n)
        chosen = ranking[0][0]
        if self._budget is not None:
            chosen = noted(chosen, self._budget.costs(chosen))
        best = Derivation(chosen, ((chosen, ranking[0][1]), *ranking[1:n]))
        return best.ranked_by(f"{task.metric.name} on the alpha part", candidates=len(candidates))

    def figures(self) -> dict[str, Any]:
        """P as it stands, how flat it is, and what a sampled child costs on average, for the metrics."""
        figures: dict[str, Any] = {}
        flatness = self._sampler.flatness()
        for name, share in self._sampler.probabilities().items():
            figures[f"probs/{name}"] = share.tolist()
            figures[f"flatness/{name}"] = flatness[name]
        return figures | {f"expected/{name}": cost for name, cost in self.expected_costs().items()}

    def heat_maps(self) -> dict[str, HeatMap]:
        """P as it stands, a picture a choice group: a row for each edge, a column for each primitive."""
        groups, maps = self._space.groups(), {}
        for name, share in self._sampler.probabilities().items():
            rows = [f"{source} to {target}" for source, target in groups[name].edges]
            maps[f"P/{name}"] = HeatMap(rows, groups[name].primitives, share.tolist())
        return maps

    def expected_costs(self) -> dict[str, float]:
        """What the operations of a sampled child cost on average: the sum of cost times inclusion probability."""
        inclusion = {name: share.double().numpy() for name, share in self._sampler.inclusion().items()}
        return {
            "parameters": float(sum((inclusion[name] * cost.parameters).sum() for name, cost in self._costs.items())),
            "macs": float(sum((inclusion[name] * cost.macs).sum() for name, cost in self._costs.items())),
        }

    def kept_costs(self, architecture: Architecture) -> dict[str, float]:
        """Parameters and multiply-adds of the operations that an architecture opens in the supernet, and their number.

        What every child has, such as the stem, is left out, and so is what no path through its cell leads through.
        """
        live = {name: live_cell(cell).code for name, cell in architecture.cells.items()}
        return {
            "parameters": float(sum((live[name] * cost.parameters).sum() for name, cost in self._costs.items())),
            "macs": float(sum((live[name] * cost.macs).sum() for name, cost in self._costs.items())),
            "operations": float(sum(int(code.sum()) for code in live.values())),
        }

    def has_collapsed(self, architecture: Architecture) -> bool:
        """Whether a cell of the space has lost what makes a network learn."""
        return is_collapsed(architecture, self._space)

    def warnings(self, kept: Architecture, *, has_begun: bool) -> list[str]:
        """What is wrong with what would be kept, a line each; nothing before alpha has moved."""
        decides = self._sampler.learns and self._sampler.differentiable
        if decides and not has_begun:
            return []
        flatness = self._sampler.flatness() if decides else {}
        return inspect(kept, self._space, flatness, self._config.train.network_config)

    def collapse(self, kept: Architecture) -> str | None:
        """A line where the architecture has collapsed, or likelier ones that were passed over; and what helps."""
        line = collapse(kept, self._space, _REMEDY)
        if line is None and (passed := (kept.posterior or {}).get("passed_over")):
            return f"collapsed: the {passed} likeliest, which were passed over. {_REMEDY}"
        return line

    @property
    def _costs(self) -> Mapping[str, Costs]:
        return self._sampler.costs


def with_source(architecture: Architecture, config: Config, task: Task[Any], epoch: int) -> Architecture:
    """The architecture with a note of where it comes from."""
    source = {
        "method": config.sampler.model_dump(mode="json"),
        "data": {"name": config.data.name, **task.describe()},
        "seed": config.seed,
        "epoch": epoch,
    }
    return replace(architecture, source=source)


def genotype_file(epoch: int) -> Path:
    """Where, inside its folder, a run keeps the architecture of an epoch."""
    return Path("genotypes") / f"epoch-{epoch:04d}.json"
