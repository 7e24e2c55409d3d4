"""A latency table of this machine: every candidate timed at the shapes of a recipe's rebuilt network.

How the times add up is fitted to random whole networks, and checked on others that the fit has not seen. The table lies
in the user's cache and is taken again on the same machine only.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datanas.budgets.latency import HeldOut, LatencyFit, LatencyTable
from datanas.codes.architecture import Architecture
from datanas.codes.liveness import lets_through
from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.paths import cache_folder
from datanas.engine.config import Config
from datanas.engine.network_recipe import NetworkRecipe
from datanas.engine.process import process_kept
from datanas.engine.setup import build_space, load_task, memory_errors, select_device
from datanas.engine.timing import interleaved_ms, repeat_error, typical_ms
from datanas.kernels.hardware import move_to
from datanas.runs.environment import cpu_model
from datanas.samplers.derivation import assemble
from datanas.samplers.uniform import random_codes
from datanas.spaces.base import Space
from datanas.spaces.workload import CellWork, Workload
from datanas.tasks.base import Task

FITTED, HELD_OUT, ROUNDS = 30, 20, 20
SETTLED, BLOCKS = 0.03, 15
"""By how much two halves of the rounds may differ, and how often so many rounds are made until they do not."""
MOST_INTO_A_NODE = 5
"""Operations into a node of a random network, at most."""
TRIES = 50
"""Random architectures that are drawn for each that is wanted, since some let nothing through or come twice."""


@dataclass(frozen=True)
class Subject:
    """What a table is about.

    Attributes:
        space: of the rebuilt network's size.
        recipe: one such network.
        work: what its cells can run.
        stem, example: what stands before them, and what that is given.
        network: what the table holds for, in JSON types.
        machine: where, likewise.
        device, threads: the same, to measure on.
    """

    space: Space
    recipe: NetworkRecipe
    work: Sequence[CellWork]
    stem: torch.nn.Module
    example: Any
    network: Mapping[str, Any]
    machine: Mapping[str, Any]
    device: torch.device
    threads: int

    @classmethod
    def of(cls, config: Config, task: Task[Any], device: torch.device, batch: int = 1) -> Subject:
        """The rebuilt networks of a configuration on this machine.

        Raises:
            ConfigError: they have no one size, or the space cannot tell what they run.
        """
        if config.train.max_macs is not None:
            raise ConfigError(
                "train.max_macs: makes every network as wide as it may be, so that none of their shapes is known "
                "beforehand; give train.channels"
            )
        if batch < 1:
            raise ConfigError(f"--batch: must be at least 1, got {batch}")
        space = build_space(config)
        groups = space.groups()
        some = assemble(random_codes(groups, seeding.generator(config.seed, "calibrate")), groups, space=space.name)
        sizes = config.train.network_config
        space = space.at_size(sizes.width, getattr(sizes, "cells", 1))
        recipe = NetworkRecipe.of_training(some, config, task)
        network = recipe.build().eval()
        cpu = torch.device("cpu")
        example = recipe.example(1, cpu)
        width, height = recipe.size or (None, None)
        about = {
            "space": space.name,
            "channels": sizes.width,
            "cells": getattr(sizes, "cells", 1),
            "task": config.task.name,
            "stem": getattr(config.task, "stem", type(network.stem).__name__),
            "head": type(network.head).__name__,
            "inputs": recipe.in_channels,
            "height": height,
            "width": width,
            "outputs": task.num_classes,
            "pooling_norm": getattr(recipe.settings, "pooling_norm", False),
            "pruned": recipe.settings.is_pruned,
            "precision": "float32",
            "batch": batch,
        }
        threads = torch.get_num_threads()
        work = space.work(network.stem, example)
        return cls(space, recipe, work, network.stem, example, about, machine(device, threads), device, threads)

    @property
    def workloads(self) -> list[Workload]:
        """All that is to be timed, in order."""
        return sorted({each for cell in self.work for row in cell.table for each in row if each is not None})

    @property
    def file(self) -> Path:
        """Where the table lies in the user's cache."""
        key = json.dumps([self.network, self.machine, list(map(str, self.workloads))], sort_keys=True)
        return cache_folder() / "latency" / f"{blake2b(key.encode(), digest_size=8).hexdigest()}.json"


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What a latency depends on beside the network, in JSON types."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else cpu_model(),
        "kind": device.type,
        "threads": threads,
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


@process_kept()
def calibrate(
    config: Config,
    *,
    fitted: int = FITTED,
    held_out: int = HELD_OUT,
    rounds: int = ROUNDS,
    batch: int = 1,
    again: bool = False,
    on_block: Callable[[int, float], None] = lambda *_: None,
) -> LatencyTable:
    """The latency table of a recipe's networks on this machine: that of the user's cache, or a new one that goes there.

    Args:
        config: its `train` section says how large the networks are, `device` and `threads` where they run.
        fitted, held_out: random networks that the fit takes, and that it is checked on.
        rounds: how often everything is timed (`datanas.engine.timing`). Where two halves of them differ by more than
            SETTLED on average, as often again, at most BLOCKS times.
        batch: examples in a forward pass.
        again: measure even where the cache has a table.
        on_block: is told after these rounds how many are done, and by how much the halves differ.

    Raises:
        ConfigError: the space cannot tell what its networks run, or a number is too low.
        DataError: no data to take shapes from, or too few architectures.
    """
    for label, value, least in (("fitted", fitted, 4), ("held-out", held_out, 2), ("rounds", rounds, 2)):
        if value < least:
            raise ConfigError(f"--{label}: must be at least {least}, got {value}")
    with memory_errors():
        device = select_device(config)
        subject = Subject.of(config, load_task(config, device), device, batch)
        if not again and subject.file.is_file() and (known := _cached(subject)) is not None:
            return known
        table = _measured(subject, config, fitted, held_out, rounds, batch, on_block)
    table.save(subject.file)
    return replace(table, source=str(subject.file))


def _cached(subject: Subject) -> LatencyTable | None:
    """The table of the cache; None where it is damaged or was changed."""
    try:
        table = LatencyTable.load(subject.file)
        table.require(machine=subject.machine, network=subject.network)
        table.require_all(subject.workloads)
    except DataError:
        return None
    return table


def _measured(
    subject: Subject,
    config: Config,
    fitted: int,
    held_out: int,
    rounds: int,
    batch: int,
    on_block: Callable[[int, float], None],
) -> LatencyTable:
    workloads, space, device = subject.workloads, subject.space, subject.device
    cells = varied_cells(space, fitted + held_out, seeding.generator(config.seed, "calibrate"))
    recipes = [replace(subject.recipe, architecture=each) for each in cells]
    norm = getattr(subject.recipe.settings, "pooling_norm", False)
    x = subject.recipe.example(batch, device)
    with seeding.keyed(config.seed, "calibrate"), torch.inference_mode():
        calls = [space.probe(each, batch, device, pooling_norm=norm) for each in workloads]
        calls += [partial(recipe.infer, move_to(recipe.build(), device).eval(), x) for recipe in recipes]
    first = len(workloads)

    def is_settled(times: NDArray[np.float64]) -> bool:
        error = repeat_error(times[:, first:])
        on_block(len(times), error)
        return error <= SETTLED

    times = interleaved_ms(calls, rounds, threads=subject.threads, device=device, blocks=BLOCKS, is_settled=is_settled)
    best = typical_ms(times)
    networks, noise = best[first:], repeat_error(times[:, first:])
    table = LatencyTable(
        {each: float(time) / space.runs_of_probe for each, time in zip(workloads, best, strict=False)},
        machine=subject.machine,
        network=subject.network,
    )
    sums = [table.sum_of(each, space, subject.work) for each in cells]
    totals, counts = [total for total, _ in sums], [count for _, count in sums]
    fit = LatencyFit.of(totals[:fitted], counts[:fitted], networks[:fitted].tolist())
    predicted = tuple(fit(*each) for each in sums[fitted:])
    return replace(table, fit=fit, held_out=HeldOut(tuple(networks[fitted:].tolist()), predicted, noise))


def varied_cells(space: Space, n: int, generator: torch.Generator) -> list[Architecture]:
    """Different random architectures that let their input through, sparse and dense in turn.

    Every second one is as random search draws it; in the others one to five operations enter a node.

    Raises:
        DataError: there are too few.
    """
    groups = space.groups()
    architectures: dict[Architecture, None] = {}
    for index in range(TRIES * n):
        if len(architectures) == n:
            break
        codes = random_codes(groups, generator)
        for name, group in groups.items():
            if group.single or index % 2 == 0:
                continue
            code = torch.zeros(group.shape)
            allowed = [op for op in range(group.shape[1]) if op != group.null]
            for into in group.by_target:
                for _ in range(int(torch.randint(1, MOST_INTO_A_NODE + 1, (), generator=generator))):
                    edge, op = (int(torch.randint(len(each), (), generator=generator)) for each in (into, allowed))
                    code[into[edge], allowed[op]] = 1.0
            codes[name] = code
        each = assemble(codes, groups, space=space.name)
        if all(lets_through(cell) for cell in each.cells.values()):
            architectures[each] = None
    if len(architectures) < n:
        raise DataError(
            f"space {space.name} has too few architectures: {n} are wanted, {len(architectures)} were found"
        )
    return list(architectures)
