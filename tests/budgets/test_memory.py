"""Peak activation memory, against sums made by hand and torch's own allocator events."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import datanas
from datanas.budgets.memory import peak_activations
from datanas.engine.width import on_meta
from datanas.kernels.switch import plain_kernels


class Chain(nn.Module):
    """x (1, 4) -> a (1, 8) -> b (1, 8) -> a + b."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8, bias=False), nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(a)
        return a + b


def test_what_is_held_at_once_is_added_up() -> None:
    assert peak_activations(Chain(), torch.zeros(1, 4)) == 4 * (4 + 8 + 8 + 8)


def test_what_is_freed_is_taken_off() -> None:
    layers = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(10)))
    peak = peak_activations(layers, torch.zeros(1, 16))
    assert peak == 4 * 16 * 3  # the input, which the caller holds, and two more


def test_views_and_weights_do_not_count() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 2).t()[0]

    assert peak_activations(Views(), torch.zeros(4)) == 16


def test_on_the_meta_device_it_is_the_same_and_batches_grow_with_it() -> None:
    def network() -> nn.Module:
        return datanas.build_network("darts_v2", channels=4, cells=3)

    here = peak_activations(network(), torch.zeros(1, 3, 16, 16))
    with on_meta():
        there = peak_activations(network(), torch.empty(1, 3, 16, 16))
        twice = peak_activations(network(), torch.empty(2, 3, 16, 16))
    assert there == here
    assert twice == 2 * there


def test_it_is_the_peak_that_the_allocator_sees() -> None:
    """All that the profiler says was taken and freed, in order; kernels' own work space makes it a little more."""
    network, x = datanas.build_network("darts_v2", channels=8, cells=3).eval(), torch.zeros(1, 3, 32, 32)
    expected = peak_activations(network, x)
    with torch.no_grad(), plain_kernels():
        network(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            network(x)
    held = peak = x.nbytes
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert expected <= peak <= 1.3 * expected
