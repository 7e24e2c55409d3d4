"""The budget of a run: cost models at the size of its network, limits for the derivation, and what a network costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from datanas.budgets.base import CostModel, CostTable, NetworkSize
from datanas.budgets.calibrated import CalibratedLatency
from datanas.budgets.models import models_of
from datanas.budgets.units import show
from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import live_cell
from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.engine.config import Config
from datanas.engine.data_record import recorded_sizes
from datanas.engine.rebuild import network_around
from datanas.engine.setup import build_space
from datanas.engine.width import on_meta, without_auxiliary
from datanas.samplers.interface import BaseSampler
from datanas.samplers.limits import Limits
from datanas.samplers.within import least_cost
from datanas.tasks import tasks
from datanas.tasks.base import Task


@dataclass(frozen=True)
class Surroundings:
    """What a task puts around a body, with or without its data.

    Attributes:
        task: its class.
        make_stem: from the width of the first cell.
        make_head: from the widths of the features, and the stem.
        example: an input of one example, on the meta device.
    """

    task: type[Task[Any]]
    make_stem: Callable[[int], nn.Module]
    make_head: Callable[[tuple[int, ...], nn.Module], nn.Module]
    example: Any


def around(task: Task[Any]) -> Surroundings:
    """Of a task with its data."""
    example = tree_map_only(torch.Tensor, lambda each: each.to("meta"), task.example())
    return Surroundings(type(task), task.make_stem, lambda widths, stem: task.make_head(widths, stem), example)


def recorded(config: Config, run: Path) -> Surroundings:
    """Of the data that a run was made on, as its folder records them."""
    kind = tasks[config.task.name]
    shape, outputs = recorded_sizes(run)
    outputs = kind.default_classes if outputs is None else outputs
    channels = kind.inputs(outputs) if shape is None else shape[0]
    sides = (kind.default_size or 1,) * 2 if shape is None else shape[1:]
    example = kind.example_input(config.task, channels, max(sides), 1, torch.device("meta"))
    if shape is not None:
        example = example[..., : sides[0], : sides[1]]
    return Surroundings(
        kind,
        lambda width: kind.stem(config.task, channels, width),
        lambda widths, stem: kind.tied_head(config.task, widths, outputs, stem),
        example,
    )


class Budget:
    """The bounds and weights of a configuration, for networks of the size of its `train`.

    Attributes:
        config: the section.
        models: of each cost that is bounded or weighted.
        tables: of those that add up.
        bounds: as given.
    """

    def __init__(self, config: Config, around: Surroundings) -> None:
        self.config = config.budget
        self.bounds = config.budget.bounds
        self.models: dict[str, CostModel] = models_of(config.budget)
        self._run = without_auxiliary(config)
        self._around = around
        self._tables: dict[str, CostTable] | None = None
        if isinstance(latency := self.models.get("latency"), CalibratedLatency):
            latency.table.require(network=self._shape())

    @property
    def tables(self) -> Mapping[str, CostTable]:
        if self._tables is None:
            size = self._size()
            with on_meta():
                self._tables = {name: model.additive(size) for name, model in self.models.items() if model.is_additive}
        return self._tables

    def limits(self) -> Limits | None:
        """What the operations may cost; None where nothing that adds up is bounded."""
        names = tuple(name for name in self.tables if name in self.bounds)
        if not names:
            return None
        groups = self.tables[names[0]].tables
        tables = {group: np.stack([self.tables[name].tables[group] for name in names], -1) for group in groups}
        return Limits(names, tables, np.array([self.bounds[name] - self.tables[name].constant for name in names]))

    def costs(self, architecture: Architecture) -> dict[str, float]:
        """What the network of an architecture costs: counted where it can be, else by the table."""
        return self.costs_of(self.build(architecture), architecture)

    def costs_of(self, network: nn.Module, architecture: Architecture) -> dict[str, float]:
        """The same of a network on the meta device that is built already."""
        costs = {}
        for name, model in self.models.items():
            counted = model.measure(network, self._around.example)
            costs[name] = self.tabled(name, architecture) if counted is None else counted
        return costs

    def allowed(self, architectures: Sequence[Architecture]) -> list[Architecture]:
        """Those whose networks are within the bounds.

        Raises:
            ConfigError: none is.
        """
        allowed = (
            [each for each in architectures if not self.exceeded(self.costs(each))] if self.bounds else architectures
        )
        if not allowed:
            raise ConfigError(f"budget: of {len(architectures)} architectures to choose from none is within it")
        return list(allowed)

    def exceeded(self, costs: Mapping[str, float]) -> list[str]:
        """Which bounds are not kept."""
        return [name for name, bound in self.bounds.items() if costs[name] > bound * (1 + 1e-9)]

    def build(self, architecture: Architecture) -> nn.Module:
        """The network of an architecture on the meta device, as inference runs it."""
        return build_on_meta(architecture, self._run, self._around)

    def real_network(self, architecture: Architecture) -> nn.Module:
        """The same with weights, in memory of the CPU."""
        return build_around(architecture, self._run, self._around)

    @property
    def answer(self) -> Callable[[Any], Any]:
        """What the task computes from the output of a network."""
        return self._around.task.answer

    @property
    def example(self) -> Any:
        """An input of one example, on the meta device."""
        return self._around.example

    def text(self, costs: Mapping[str, float]) -> str:
        """Costs beside their bounds, for people."""
        return ", ".join(
            f"{name} {show(value, self.models[name].unit)}"
            + (f" of {show(self.bounds[name], self.models[name].unit)}" if name in self.bounds else "")
            for name, value in costs.items()
        )

    def limit(self, sampler: BaseSampler) -> None:
        """Let a sampler derive within the bounds.

        Raises:
            ConfigError: no network keeps them, or the method cannot derive within any.
        """
        if self.config.weights and not (sampler.learns and sampler.differentiable and sampler.heeds_limits):
            raise ConfigError(f"budget.weight: sampler {sampler.config.name} has no loss for it to enter; give a bound")
        if not self.bounds:
            return
        if not sampler.heeds_limits:
            raise ConfigError(
                f"budget: sampler {sampler.config.name} cannot choose within bounds; egs, darts, random and others can"
            )
        self.require_met(sampler)
        sampler.limits = self.limits()

    def require_met(self, sampler: BaseSampler) -> dict[str, float]:
        """The least possible cost of each bound that adds up.

        Raises:
            ConfigError: no network keeps a bound, or none keeps all of them.
        """
        limits = self.limits()
        least: dict[str, float] = {}
        if limits is None:
            return least
        network = self._run.train.network_config
        fewer = f"train.{network.width_setting}{' or cells' if hasattr(network, 'cells') else ''}"
        samples = {name: sampler.samples_of(name) for name in sampler.groups}
        for index, name in enumerate(limits.names):
            least[name] = self.tables[name].constant + least_cost(sampler.vectors, limits, index, samples)
            unit = self.models[name].unit
            if least[name] > self.bounds[name] * (1 + 1e-9):
                raise ConfigError(
                    f"budget.{name}: no network of {network.text()} has less than {show(least[name], unit)}, more than "
                    f"the {show(self.bounds[name], unit)} allowed; allow as much, or take fewer {fewer}"
                )
        return least

    def _shape(self) -> dict[str, Any]:
        """What a calibrated table must be of, as it says it of itself."""
        network = self._run.train.network_config
        size = {"channels": network.width, "cells": getattr(network, "cells", 1)}
        return {"space": self._run.space.name, **size, "task": self._run.task.name, "batch": 1}

    def tabled(self, name: str, architecture: Architecture) -> float:
        """The sum over the table of a cost that adds up, whatever the order of edges and primitives in an architecture.

        Raises:
            ConfigError: the table has no such edge or primitive.
        """
        table, groups = self.tables[name], self._groups
        total = table.constant
        for group_name, cell in architecture.cells.items():
            group = groups.get(group_name)
            for edge, op in zip(*np.nonzero(live_cell(cell).code), strict=True):
                ends, primitive = cell.edges[edge], cell.primitives[op]
                if group is None or ends not in group.edges or primitive not in group.primitives:
                    raise ConfigError(
                        f"budget.{name}: its table is of space {self._run.space.name} as it is set, which has no "
                        f"{primitive} on edge {ends} of {group_name}"
                    )
                costs = table.tables[group_name]
                total += float(costs[group.edges.index(ends), group.primitives.index(primitive)])
        return total

    @cached_property
    def _groups(self) -> Mapping[str, ChoiceGroup]:
        return build_space(self._run).groups()

    def _size(self) -> NetworkSize:
        space = build_space(self._run)
        network = self._run.train.network_config
        with on_meta(), seeding.keyed(self._run.seed, "budget"):
            stem = self._around.make_stem(network.width)
        sized = space.at_size(network.width, getattr(network, "cells", 1))
        return NetworkSize(sized, space.groups(), stem, self._around.example, self.build)


def build_on_meta(architecture: Architecture, config: Config, around: Surroundings) -> nn.Module:
    """The network of `train` on the meta device."""
    with on_meta():
        return build_around(architecture, config, around)


def build_around(architecture: Architecture, config: Config, around: Surroundings) -> nn.Module:
    """The network of `train`, its weights drawn from the seed."""
    with seeding.keyed(config.seed, "budget"), architecture.naming_file():
        stem = around.make_stem(config.train.network_config.width)
        return network_around(architecture, config, around.task, stem, partial(_swapped, around.make_head, stem))


def _swapped(
    make_head: Callable[[tuple[int, ...], nn.Module], nn.Module], stem: nn.Module, widths: tuple[int, ...]
) -> nn.Module:
    return make_head(widths, stem)


def budget_of(config: Config, around: Surroundings) -> Budget | None:
    """The budget of a run; None where nothing is bounded or weighted."""
    return Budget(config, around) if config.budget.is_given else None


def require_within(architecture: Architecture, config: Config, task: Task[Any]) -> dict[str, float]:
    """What the network of a training costs, where there is a budget.

    Raises:
        ConfigError: it is not within a bound; which, and by how much.
    """
    budget = budget_of(config, around(task))
    if budget is None or not budget.bounds:
        return {}
    costs = budget.costs(architecture)
    if wrong := budget.exceeded(costs):
        over = budget.text({name: costs[name] for name in wrong})
        raise ConfigError(
            f"budget.{wrong[0]}: the network of {config.train.network_config.text()} is not within it: {over}; derive "
            f"one that is (datanas derive RUN --budget.{wrong[0]} ...), or let the width follow the bound "
            "(--budget.fill true)"
        )
    return costs


def noted(architecture: Architecture, costs: Mapping[str, float]) -> Architecture:
    """The architecture with what its network costs among its notes."""
    return replace(architecture, posterior={**(architecture.posterior or {}), "costs": dict(costs)})


UNITS = {"macs": "multiply-adds", "parameters": "parameters", "size": "B", "memory": "B", "latency": "ms"}


def costs_text(architecture: Architecture) -> str:
    """What was noted of an architecture that was derived within a budget, in a line for people; empty of others."""
    notes = architecture.posterior or {}
    if "costs" not in notes:
        return ""
    costs = ", ".join(show(value, UNITS[name]) for name, value in notes["costs"].items())
    if "timed_ms" in notes:
        costs = f"{costs}, {show(notes['timed_ms'], 'ms')} timed here"
    if "free_log_prob" not in notes:
        return f"its network: {costs}"
    free = notes["free_log_prob"]
    beside = "also without the bounds" if free <= notes["log_prob"] else f"without the bounds log P {free:.4g}"
    return f"its network: {costs}; the likeliest {beside}"
