"""Batch norm whose batch is spread over processes: two threads stand for two processes here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datanas.core.errors import ConfigError
from datanas.core.processes import Processes
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates
from datanas.kernels.mixed import MixedNode
from datanas.kernels.norm import BatchNorm2d, each_alone, statistics_kept, synchronise
from datanas.kernels.switch import plain_kernels
from datanas.ops import OpSettings, operations
from datanas.ops.identity import Zero

SETTINGS = OpSettings(channels=4, stride=1, affine=True, pooling_norm=True)


class Meeting:
    """Where the threads lay down what the others take."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.places: list[Tensor | None] = [None] * size


class Thread(Processes):
    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.size = rank, len(meeting.places)
        self._meeting = meeting

    def gather(self, tensor: Tensor) -> Tensor:
        self._meeting.places[self.rank] = tensor.detach()
        self._meeting.barrier.wait()
        found = torch.stack([place for place in self._meeting.places if place is not None])
        self._meeting.barrier.wait()
        return found

    def total(self, tensor: Tensor) -> Tensor:
        result: Tensor = Total.apply(tensor, self)
        return result


class Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, thread: Thread) -> Tensor:
        ctx.thread = thread
        return thread.gather(tensor).sum(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        result: Tensor = Total.apply(gradients[0], ctx.thread)
        return result, None


def in_two_threads(work: Callable[[Thread], Any]) -> list[Any]:
    meeting = Meeting(2)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, (Thread(rank, meeting) for rank in range(2))))


def whole_and_halves(
    module: nn.Module, x: Tensor, *, plain: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Output, gradients and buffers of a module on a batch, and of two copies that share it."""
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)

    def found(part: nn.Module, own: Tensor, out: Tensor) -> dict[str, Tensor]:
        assert own.grad is not None
        grads = {f"grad {name}": value.grad for name, value in part.named_parameters() if value.grad is not None}
        state = {name: value for name, value in part.named_buffers() if value.is_floating_point()}
        return {"output": out.detach(), "grad input": own.grad, **grads, **state}

    def run(part: nn.Module, own: Tensor, weight: Tensor) -> dict[str, Tensor]:
        own = own.clone(memory_format=torch.channels_last).requires_grad_()
        out = part(own)
        (out * weight).mean().backward()
        return found(part, own, out)

    expected = run(deepcopy(module), x, weights)

    def work(thread: Thread) -> dict[str, Tensor]:
        part = deepcopy(module)
        synchronise(part, thread)
        share = thread.share(len(x))
        return run(part, x[share], weights[share])

    # The switch is one for all threads, so it is thrown outside of them.
    with plain_kernels() if plain else nullcontext():
        halves = in_two_threads(work)
    both = {
        name: torch.cat([half[name] for half in halves])
        if name == "output"
        else torch.cat([half[name] / 2 for half in halves])
        if name == "grad input"
        else torch.stack([half[name] for half in halves]).mean(0)
        for name in expected
    }
    for name in halves[0]:
        if not name.startswith(("grad", "output")):
            assert torch.equal(halves[0][name], halves[1][name]), name
    return expected, both


def maps(channels: int = 4, batch: int = 6, side: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, side, side, generator=generator, dtype=torch.float64)
    # Halves that differ, so that statistics of their own would show.
    x[: batch // 2] += 3.0
    return x


@pytest.fixture(params=[False, True], ids=["own kernels", "plain kernels"])
def plain(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("channels", [1, 4, 48])
@pytest.mark.parametrize("affine", [False, True])
def test_a_shared_batch_norm_is_that_of_the_whole_batch(channels: int, affine: bool, plain: bool) -> None:
    norm = BatchNorm2d(channels, affine=affine).double()
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    expected, both = whole_and_halves(norm, maps(channels), plain=plain)
    for name, value in expected.items():
        torch.testing.assert_close(both[name], value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("name", [name for name in operations if name != "none"])
def test_every_operation_on_a_shared_batch_is_that_on_the_whole(name: str) -> None:
    torch.manual_seed(0)
    module = operations[name](SETTINGS).double()
    expected, both = whole_and_halves(module, maps())
    for key, value in expected.items():
        torch.testing.assert_close(both[key], value, rtol=1e-9, atol=1e-9, msg=key)


def test_statistics_of_a_half_alone_are_others() -> None:
    """Negative control."""
    norm = BatchNorm2d(4).double()
    expected, both = whole_and_halves(nn.Sequential(norm), maps())
    alone = BatchNorm2d(4).double()(maps()[:3])
    assert torch.allclose(both["output"], expected["output"])
    assert not torch.allclose(alone, expected["output"][:3], atol=0.1)


def test_a_second_derivative_is_that_of_the_whole_batch() -> None:
    x, norm = maps(), nn.BatchNorm2d(4).double()

    def second(part: nn.Module, own: Tensor, share: slice) -> Tensor:
        own = own.clone().requires_grad_()
        loss = part(own).pow(3).sum()
        (gradient,) = torch.autograd.grad(loss, own, create_graph=True)
        (result,) = torch.autograd.grad(gradient.pow(2).sum(), own)
        return result

    expected = second(norm, x, slice(None))

    def work(thread: Thread) -> Tensor:
        part = BatchNorm2d(4).double()
        synchronise(part, thread)
        share = thread.share(len(x))
        return second(part, x[share], share)

    with plain_kernels():
        found = torch.cat(in_two_threads(work))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_in_evaluation_nobody_is_asked() -> None:
    meeting = Meeting(2)
    norm = BatchNorm2d(4).double().eval()
    synchronise(norm, Thread(0, meeting))
    assert torch.allclose(norm(maps()), nn.BatchNorm2d(4).double().eval()(maps()))


def test_each_alone_asks_nobody_and_remembers_whom_to_ask() -> None:
    thread = Thread(0, Meeting(2))
    norm = BatchNorm2d(4).double()
    synchronise(norm, thread)
    with each_alone(norm):
        assert torch.allclose(norm(maps()), BatchNorm2d(4).double()(maps()))
    assert norm.processes is thread


def test_a_batch_norm_that_cannot_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"sync_batch_norm: BatchNorm1d cannot; use datanas\.kernels\.norm\.BatchNorm2d"
    ):
        synchronise(nn.Sequential(BatchNorm2d(4), nn.BatchNorm1d(4)), Thread(0, Meeting(2)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_gate_of_a_node_has_the_gradient_of_the_whole_batch(layout: torch.memory_format) -> None:
    """Closed gates too, whose operations run in the backward pass."""
    names = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
    code = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.5, 1.0, 0.0]], dtype=torch.float64)
    torch.manual_seed(0)
    candidates = {
        f"{edge}_{name}": CellOperation(edge, op, edge, 1, operations[name](SETTINGS))
        for edge in range(2)
        for op, name in enumerate(names)
    }
    node = MixedNode(candidates, Zero(1)).double()
    inputs = [maps(), maps().flip(0).sin()]

    def gradient(part: MixedNode, share: slice) -> Tensor:
        values = code.clone().requires_grad_()
        states = [each[share].contiguous(memory_format=layout) for each in inputs]
        output = part(states, replace(Gates.of(values.detach()), values=values))
        output.square().mean().backward()
        assert values.grad is not None
        return values.grad

    expected = gradient(deepcopy(node), slice(None))

    def work(thread: Thread) -> Tensor:
        part = deepcopy(node)
        synchronise(part, thread)
        return gradient(part, thread.share(6))

    # What closed operations do to running statistics is switched off by each pass, for all threads at once.
    with statistics_kept():
        found = torch.stack(in_two_threads(work)).mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    halves = torch.stack([gradient(deepcopy(node), share) for share in (slice(0, 3), slice(3, 6))]).mean(0)
    assert not torch.allclose(halves, expected, rtol=1e-3)
