"""A node on part of the channels: the sum taken apart has the values and gradients of PC-DARTS' mixed edges."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates, Table
from datanas.kernels.mixed import MixedNode
from datanas.kernels.norm import statistics_kept
from datanas.kernels.partial import PartialNode, split_state
from datanas.kernels.switch import plain_kernels
from datanas.ops import OpSettings, operations
from datanas.ops.identity import Zero

NAMES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
CODES = {
    "nothing": [[0, 0, 0, 0], [0, 0, 0, 0]],
    "none": [[0.5, 0, 0, 0], [0, 0, 0, 0]],
    "one": [[0, 0, 0, 1], [0, 0, 0, 0]],
    "several": [[0.25, 0.5, 0, 1], [0, 0.125, 2, 0]],
    "balanced": [[0, 1, -1, 0], [0, 0, 0.5, 0.5]],
}
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
KERNELS = pytest.mark.parametrize("kernels", [nullcontext, plain_kernels])


def make_node(parts: int, stride: int = 1, channels: int = 12) -> PartialNode:
    torch.manual_seed(1)
    settings = OpSettings(channels // parts, stride, affine=False, pooling_norm=True)
    candidates = {
        f"{edge}_{name}": CellOperation(edge, op, edge, 1, operations[name](settings))
        for edge in range(2)
        for op, name in enumerate(NAMES)
        if name != "none"
    }
    node = PartialNode(MixedNode(candidates, Zero(stride)), {0: 0, 1: 1}, parts)
    return node.double().to(memory_format=torch.channels_last)


def make_states(layout: torch.memory_format, size: int = 6, channels: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    numbers = [torch.randn(3, channels, size, size, dtype=torch.double, generator=generator) for _ in range(2)]
    return [state.contiguous(memory_format=layout).requires_grad_() for state in numbers]


def make_gates(code: str, grad_mask: Table | None = None, *, learns: bool = True) -> Gates:
    values = torch.tensor(CODES[code], dtype=torch.double, requires_grad=learns)
    return replace(Gates.of(values), values=values, grad_mask=grad_mask)


def run(node: PartialNode, states: Sequence[Tensor], gates: Gates, stride: int = 1) -> Tensor:
    output: Tensor = node([split_state(state, node._parts, halve=stride == 2) for state in states], gates)
    return output


def naive(node: PartialNode, states: Sequence[Tensor], values: Tensor, parts: int, stride: int) -> Tensor:
    """Every edge by itself, as in PC-DARTS' own code: mix, concatenate, shuffle, add up."""
    total: Tensor | None = None
    for edge, state in enumerate(states):
        width = state.shape[1] // parts
        for op, name in enumerate(NAMES):
            first, others = state[:, :width], state[:, width:]
            module = operations[name](OpSettings(width, stride)) if name == "none" else node.mixed.ops[f"{edge}_{name}"]
            if stride == 2:
                others = F.max_pool2d(F.pad(others, (0, others.shape[3] % 2, 0, others.shape[2] % 2), value=-1e9), 2, 2)
            mixed = torch.cat([module(first), others], dim=1)
            batch, channels, height, breadth = mixed.shape
            shuffled = mixed.reshape(batch, parts, channels // parts, height, breadth).transpose(1, 2)
            weighted = shuffled.reshape(mixed.shape) * values[edge, op]
            total = weighted if total is None else total + weighted
    assert total is not None
    return total


def gradients(output: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    if not output.requires_grad:
        return [torch.zeros_like(x) for x in wanted]
    slope = torch.linspace(-1, 1, output.numel()).double().reshape(output.shape)
    found = torch.autograd.grad((output * slope).sum() + output.square().sum(), wanted, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]


def assert_same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


@KERNELS
@LAYOUTS
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("parts", "stride", "size"), [(4, 1, 6), (3, 1, 5), (2, 2, 6), (4, 2, 5)])
def test_it_is_the_sum_of_pc_darts_edges(
    code: str, parts: int, stride: int, size: int, layout: torch.memory_format, kernels: type[nullcontext[None]]
) -> None:
    node, states = make_node(parts, stride), make_states(layout, size)
    gates = make_gates(code)
    with kernels():
        ours = run(node, states, gates, stride)
        found = [ours.detach(), *gradients(ours, [gates.values, *states, *node.parameters()])]
    with plain_kernels():
        theirs = naive(node, states, gates.values, parts, stride)
        expected = [theirs.detach(), *gradients(theirs, [gates.values, *states, *node.parameters()])]
    assert_same(found, expected)


@LAYOUTS
@pytest.mark.parametrize("code", CODES)
def test_fixed_gates_give_the_same_value_and_gradients(code: str, layout: torch.memory_format) -> None:
    found = []
    for learns in (True, False):
        node, states = make_node(4), make_states(layout)
        output = run(node, states, make_gates(code, learns=learns))
        found.append([output.detach(), *gradients(output, [*states, *node.parameters()])])
    assert_same(*found)


def test_what_went_past_counts_in_the_gradient_of_closed_gates() -> None:
    """Negative control: all gates closed, `none` has a gradient that only the bypass can give it."""
    gates = make_gates("nothing")
    output = run(make_node(4), make_states(torch.channels_last), gates)
    (gradient,) = torch.autograd.grad((output * torch.linspace(-1, 1, 3).view(-1, 1, 1, 1)).sum(), [gates.values])
    assert (gradient[:, 0].abs() > 1e-6).all()


def test_what_is_asked_multiplies_the_gates_gradients() -> None:
    grad_mask = ((2.0, 0.0, 1.0, 0.0), (0.0, 3.0, 0.0, 1.0))
    found = []
    for given in (None, grad_mask):
        node, states, gates = make_node(4), make_states(torch.channels_last), make_gates("several", given)
        output = run(node, states, gates)
        found.append([output.detach(), *gradients(output, [gates.values, *states])])
    exact, ours = found
    exact[1] = exact[1] * torch.tensor(grad_mask)
    assert_same(ours, exact)


def test_forward_mode_sees_the_bypass_of_dense_gates() -> None:
    node, states, gates = make_node(4).eval(), make_states(torch.channels_last), make_gates("nothing")
    (wanted,) = torch.autograd.grad(run(node, states, gates).sin().sum(), [gates.values])

    def loss(values: Tensor) -> Tensor:
        return run(node, states, Gates(values, gates.host, dense=True)).sin().sum()

    slope = torch.linspace(-1, 1, 8).double().view(2, 4)
    with plain_kernels(), statistics_kept():
        _, *tangents = torch.func.jvp(loss, (gates.values.detach(),), (slope,))
    (found,) = tangents
    assert abs(found) > 1e-3
    torch.testing.assert_close(found, (wanted * slope).sum())


def test_channels_stand_one_part_after_the_other_in_turn() -> None:
    node = PartialNode(MixedNode({"a": CellOperation(0, 0, 0, 1, nn.Identity())}, Zero(1)), {0: 0}, 3)
    x = torch.arange(6.0).view(1, 6, 1, 1)
    output = run(node, [x], Gates.of(torch.tensor([[2.0]])))
    assert output.flatten().tolist() == [0, 4, 8, 2, 6, 10]


@LAYOUTS
def test_the_layout_is_kept(layout: torch.memory_format) -> None:
    states = make_states(layout)
    active, bypass = split_state(states[0], 4)
    assert active.is_contiguous(memory_format=layout)
    assert bypass.is_contiguous(memory_format=layout)
    for learns in (True, False):
        output = run(make_node(4).to(memory_format=layout), states, make_gates("several", learns=learns))
        assert output.is_contiguous(memory_format=layout)


def test_second_derivative_is_right_under_plain_kernels() -> None:
    node, states = make_node(2, channels=4), [state.detach() for state in make_states(torch.channels_last, 3, 4)]
    host = make_gates("several").host
    with plain_kernels():
        assert torch.autograd.gradgradcheck(
            lambda values: run(node, states, Gates(values, host)).pow(3), (make_gates("several").values,)
        )
