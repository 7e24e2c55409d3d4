"""A profile counts what torch counts on the network itself, live parts only, and measures each batch by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import datanas
from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.core.registry import load_plugin
from datanas.engine import profile as profiles
from datanas.engine.memory import inference_memory, measure_memory
from datanas.engine.network_recipe import NetworkRecipe
from datanas.engine.profile import profile
from datanas.kernels.switch import plain_kernels
from datanas.lookup import architectures
from datanas.network import builder_of
from datanas.references import references

CPU = torch.device("cpu")
NAMES = [*architectures(), *(name for name in references if references[name].Network.has_width)]


def small(name: str) -> NetworkRecipe:
    """A network of this architecture that takes a moment; of a language model eleven words."""
    architecture = datanas.architecture(name)
    if builder_of(architecture).task == "language":
        return NetworkRecipe(architecture, classes=11, network={"channels": 5})
    cells = {} if name in references else {"cells": max(3, builder_of(architecture).fewest_cells)}
    return NetworkRecipe(architecture, classes=7, network={"channels": 4, **cells}, size=(32, 32))


def counted(recipe: NetworkRecipe) -> tuple[int, int]:
    """Parameters and multiply-adds as torch counts them where the network runs."""
    network = recipe.build().eval()
    with torch.no_grad(), plain_kernels(), FlopCounterMode(display=False) as counter:
        network(recipe.example(1, CPU))
    return sum(p.numel() for p in network.parameters() if p.requires_grad), counter.get_total_flops() // 2


@contextmanager
def hooks(network: nn.Module) -> Iterator[list[int]]:
    """The multiply-adds of each convolution and linear layer that runs, by the textbook's formula."""
    found: list[int] = []

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            found.append(output.numel() * module.weight[0].numel())

    handles = [module.register_forward_hook(count) for module in network.modules()]
    yield found
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_multiply_adds_are_those_of_torch(name: str) -> None:
    recipe = small(name)
    found = profiles.profile_recipe(recipe, 1, "cpu", memory=False)
    assert (found.parameters, found.macs) == counted(recipe)


@pytest.mark.parametrize("name", [name for name in NAMES if builder_of(datanas.architecture(name)).task != "language"])
def test_multiply_adds_are_those_of_the_formula(name: str) -> None:
    recipe = small(name)
    network = recipe.build().eval()
    with torch.no_grad(), plain_kernels(), hooks(network) as found:
        network(recipe.example(1, CPU))
    assert sum(found) == recipe.macs()


def test_the_multiply_adds_of_a_language_model_are_those_of_its_matrices() -> None:
    recipe = small("darts_v2_rnn")
    body: Any = recipe.build().body
    matrices = [body.steps.input, body.steps.recurrent, *body.steps.nodes.values()]
    assert recipe.macs() == sum(matrix.numel() for matrix in matrices) + 11 * 5


def with_dead_part() -> tuple[Architecture, Architecture]:
    """A cell whose node 3 nobody reads, and the same without the operation that leads there."""
    whole = datanas.architecture("darts_v2")
    cells = {}
    for name, cell in whole.cells.items():
        code = np.array(cell.code)
        for edge, (source, _) in enumerate(cell.edges):
            if source == 3:
                code[edge] = 0
        into = next(edge for edge, ends in enumerate(cell.edges) if ends == (0, 3))
        code[into] = 0
        cells[name, False] = replace(cell, code=np.array(code), outputs=(2, 4, 5))
        code[into, cell.primitives.index("sep_conv_5x5")] = 1
        cells[name, True] = replace(cell, code=code, outputs=(2, 4, 5))
    return tuple(  # type: ignore[return-value]
        replace(whole, cells={name: cell for (name, dead), cell in cells.items() if dead is has})
        for has in (True, False)
    )


def test_what_is_dead_does_not_count() -> None:
    dead, without = with_dead_part()
    size: dict[str, Any] = {"channels": 4, "cells": 3, "batch": 1, "device": "cpu", "memory": False}
    found, expected, unpruned = profile(dead, **size), profile(without, **size), profile(dead, prune=False, **size)
    assert (found.parameters, found.macs) == (expected.parameters, expected.macs)
    assert unpruned.macs > found.macs
    assert unpruned.parameters > found.parameters
    assert "left out" in str(found)
    assert "\ndead  " in str(unpruned)


def test_both_batches_are_timed_with_threads_and_precision_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "call_seconds", lambda call, *_, **__: [float(len(call())), 40.0, 50.0])
    found = profile(datanas.architecture("gdas"), 4, 3, size=8, device="cpu", threads=1, memory=False)
    assert found.latency_ms == {1: 40_000.0, 32: 40_000.0}
    assert found.least_ms == {1: 1_000.0, 32: 32_000.0}
    assert (found.threads, found.precision, found.device) == (1, "float32", "cpu")
    assert "latency        40000.00 ms for a batch of 32 on cpu, 1 thread, float32, median of 10 after 3" in str(found)
    assert json.loads(found.to_json())["least_ms"] == {"1": 1_000.0, "32": 32_000.0}


def test_costs_and_time_stand_by_part_and_operation() -> None:
    found = profile(datanas.architecture("gdas"), 4, 3, size=8, batch=1, device="cpu", threads=1, memory=False)
    by_part, by_operation = found.costs
    assert sum(int(row[1] or 0) for row in by_part.rows) == found.macs
    text = str(found)
    assert "\nby part                      multiply-adds            parameters          milliseconds\nstem " in text
    assert "\nsums of a cell                     0    0%               0    0%" in text
    assert by_part.note in text
    assert json.loads(found.to_json())["costs"][1]["rows"] == [list(row) for row in by_operation.rows]


def test_a_language_network_is_profiled_to_its_end() -> None:
    found = profile(datanas.architecture("darts_v2_rnn"), 4, batch=1, device="cpu", threads=1, memory=False)
    assert sum(int(row[1] or 0) for row in found.costs[0].rows) == found.macs


def test_what_a_task_computes_from_the_output_is_timed_too() -> None:
    recipe = small("darts_v2_rnn")
    assert recipe.infer(recipe.build().eval(), recipe.example(3, CPU)).shape == (1, 3, 11)


@pytest.mark.parametrize("batch", [0, (1, -2), ()])
def test_a_batch_of_nothing_is_refused(batch: Any) -> None:
    with pytest.raises(ConfigError, match="--batch: must be at least 1, got"):
        profile(datanas.architecture("gdas"), 4, 3, batch=batch)


def test_memory_is_that_of_a_process_of_its_own() -> None:
    held = np.ones(1 << 25)  # what this process holds is none of the network's
    recipe = replace(small("gdas"), size=(64, 64))
    found, missing = inference_memory(recipe, (32, 1), CPU, 1)
    assert missing == ""
    assert 0 < found[1] < found[32] < held.nbytes
    # The stem alone writes 32 maps of 12 channels.
    assert found[32] > 32 * 12 * 64 * 64 * 4


def test_memory_that_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    found, missing = inference_memory(small("gdas"), (1,), CPU, 1)
    assert found == {}
    assert "No such file" in missing


def test_the_process_builds_the_network_that_was_described(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(
        small("data_m4"),
        options={"stem": "cifar_half"},
        size=(24, 16),
        network={"channels": 4, "cells": 3, "prune": False},
    )
    assert NetworkRecipe.from_plain(json.loads(json.dumps(recipe.to_plain()))) == recipe
    seen: list[Any] = []
    monkeypatch.setattr(NetworkRecipe, "infer", lambda self, network, x: seen.append((self, x.shape)))
    measure_memory({"recipe": recipe.to_plain(), "batches": [1, 3], "device": "cpu", "threads": 1, "plugins": []})
    assert seen == [(recipe, (1, 3, 16, 24)), (recipe, (3, 3, 16, 24))]


def test_a_plugin_is_known_in_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def run(*_: Any, input: str, **__: Any) -> Any:
        calls.append(json.loads(input)["plugins"])
        raise OSError

    monkeypatch.setattr(subprocess, "run", run)
    file = tmp_path / "made_up_for_memory.py"
    file.write_text("")
    load_plugin(file)
    inference_memory(small("gdas"), (1,), CPU, 1)
    assert str(file.resolve()) in calls[0]
