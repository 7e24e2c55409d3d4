"""Costs of networks, against counts by hand."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from datanas import tasks
from datanas.kernels.hardware import (
    count_macs,
    count_parameters,
    median_seconds,
    move_to,
    peak_memory,
    unusable_because,
    widest_float,
)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, padding=2, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


PARAMETERS = 3 * 8 * 9 + 16 + (2 * 8 * 25 + 8) + (8 * 10 + 10)
MACS = 3 * 8 * 9 * 8 * 8 + 2 * 8 * 25 * 8 * 8 + 8 * 10


def test_parameters_are_counted() -> None:
    assert count_parameters(network()) == PARAMETERS


def test_a_shared_parameter_counts_once() -> None:
    layer = nn.Linear(4, 4)
    assert count_parameters(nn.Sequential(layer, layer)) == 20


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_multiply_adds_are_those_of_convolutions_and_matrix_products(device: str) -> None:
    assert count_macs(network().to(device), torch.zeros(1, 3, 16, 16, device=device)) == MACS


def test_multiply_adds_grow_with_the_batch() -> None:
    assert count_macs(network(), torch.zeros(4, 3, 16, 16)) == 4 * MACS


@pytest.mark.parametrize("training", [True, False])
def test_counting_changes_neither_mode_nor_statistics(training: bool) -> None:
    module = network().train(training)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count_macs(module, torch.randn(2, 3, 16, 16))
    assert module.training == module[1].training == training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_placed_module_keeps_its_weights_in_channels_last() -> None:
    module = network()
    weight = module.get_parameter("3.weight").detach().clone()
    assert move_to(module, torch.device("cpu")) is module
    assert torch.equal(module.get_parameter("3.weight"), weight)
    assert module.get_parameter("3.weight").is_contiguous(memory_format=torch.channels_last)


def test_the_time_is_the_median_of_the_calls_after_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([1.0, 9.0, 2.0, 3.0, 50.0])
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def call() -> None:
        calls.append(1)
        if len(calls) > 2:
            now[0] += next(durations)

    assert median_seconds(call, torch.device("cpu"), warm_up=2, repeats=5) == 3.0
    assert len(calls) == 7


def test_peak_memory_of_the_process_is_in_bytes() -> None:
    block = bytearray(1 << 26)
    assert len(block) < peak_memory(torch.device("cpu")) < 1 << 40


def test_multiply_adds_are_counted_whatever_a_network_takes() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, pair: tuple[torch.Tensor, None]) -> torch.Tensor:
            return self.layer(pair[0])

    assert count_macs(Pairs(), (torch.zeros(3, 4), None)) == 3 * 4 * 2


def test_placing_takes_weights_of_any_number_of_dimensions() -> None:
    module = nn.ParameterDict({str(n): nn.Parameter(torch.rand([2] * n)) for n in range(5)})
    before = {name: value.clone() for name, value in module.items()}
    placed = move_to(module, torch.device("cpu"))
    assert all(torch.equal(value, before[name]) for name, value in placed.items())
    assert placed["4"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", torch.float64), ("cuda:1", torch.float64), ("mps", torch.float32)]
)
def test_sums_are_as_wide_as_the_device_allows(device: str, expected: torch.dtype) -> None:
    assert widest_float(torch.device(device)) == expected


def test_no_task_takes_float64_of_its_device_for_granted() -> None:
    """Apple's GPUs have none: what a task sums there is `widest_float`; what it computes in float64 lies on the CPU."""
    taken = re.compile(r"\.double\(\)|dtype=torch\.float64|\.to\(torch\.float64\)")
    files = sorted(Path(tasks.__file__).parent.glob("*.py"))
    lines = [line for path in files for line in path.read_text().splitlines() if taken.search(line)]
    assert lines
    assert [line for line in lines if ".cpu()" not in line] == []


def test_the_highest_point_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datanas.kernels.hardware.Path.is_file", lambda path: False)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(torch.device("cpu")) == 0
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory(torch.device("cpu")) == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mps", "this build of torch has no MPS; available: cpu"),
        ("cuda", "no GPU that torch can use was found; available: cpu"),
        ("cuda:3", "no GPU that torch can use was found; available: cpu"),
        ("xpu", "torch has no such device here; available: cpu"),
    ],
)
def test_a_device_that_is_not_there_is_told_in_a_line(name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    dispatcher = NotImplementedError("Could not run 'aten::empty.memory_format' with arguments\nand forty lines more")
    assert unusable_because(name, dispatcher) == reason


def test_a_device_that_torch_was_not_built_for_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "this build of torch has no CUDA" in unusable_because("cuda", RuntimeError("Torch not compiled with CUDA"))
