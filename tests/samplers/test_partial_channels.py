"""What methods on a part of the channels make of a cell's node: PC-DARTS' formula, `none` and all."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datanas.core.settings import validate
from datanas.kernels.gates import host_gates
from datanas.kernels.partial import PartialNode
from datanas.kernels.switch import plain_kernels
from datanas.samplers import samplers
from datanas.samplers.base import Sampler
from datanas.spaces.base import StemShape
from datanas.spaces.conv_body import ConvBody
from datanas.spaces.conv_cell import ConvCellSpace

CPU = torch.device("cpu")
PRIMITIVES = ("skip_connect", "none", "max_pool_3x3", "sep_conv_3x3")
SPACE = ConvCellSpace(ConvCellSpace.Config(cells=3, channels=6, nodes=5, primitives=PRIMITIVES))
PARTS = 3


class _Stem(torch.nn.Module):
    shape = StemShape((4, 4), halved=False)


def make(name: str) -> tuple[Sampler, ConvBody]:
    torch.manual_seed(0)
    settings = validate(samplers[name].Config, {"name": name, "parts": PARTS}, "sampler")
    sampler = samplers[name](settings, SPACE.groups(), "conv_cell").double()
    assert isinstance(sampler, Sampler)
    with torch.no_grad():
        for parameter in sampler.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return sampler, SPACE.partial_body(_Stem(), PARTS).double()


def mixed_edge(operations: dict[str, torch.nn.Module], weights: Tensor, x: Tensor, *, halve: bool) -> Tensor:
    """Operations weighed on the first part, the others as they are, shuffled: none of them depends on `weights`."""
    width = x.shape[1] // PARTS
    outputs = [weights[PRIMITIVES.index(name)] * module(x[:, :width]) for name, module in operations.items()]
    others = F.max_pool2d(x[:, width:], 2, 2) if halve else x[:, width:]
    mixed = torch.cat([sum(outputs[1:], outputs[0]), others], dim=1)
    batch, channels, height, breadth = mixed.shape
    return mixed.view(batch, PARTS, channels // PARTS, height, breadth).transpose(1, 2).reshape(mixed.shape)


@pytest.mark.parametrize("kernels", [nullcontext, plain_kernels])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("group", ["normal", "reduce"])
@pytest.mark.parametrize("name", ["pc_darts", "drnas"])
def test_a_node_and_its_gradients_are_those_of_the_paper(
    name: str, group: str, dense: bool, kernels: type[nullcontext[None]]
) -> None:
    """sum_e b_e shuffle(sum_o w_eo o(x_e), rest_e), where the w of an edge sum to 1 with that of `none`."""
    sampler, body = make(name)
    cell = body.cells[0 if group == "normal" else 1]
    halved = 0 if group == "normal" else 2
    nodes = cell.get_submodule("nodes")
    x = [torch.randn(3, 6 if group == "normal" else 12, 8, 8).double() for _ in range(2)]
    generator = torch.Generator().manual_seed(4)
    slope = torch.randn(3, x[0].shape[1], 8 // (2 if halved else 1), 8 // (2 if halved else 1)).double()

    found = sampler.draw(0.5, generator)
    with kernels():
        (ours, *_) = nodes(x, host_gates(found.gates, CPU, dense=dense)[group])[2:]
        own = torch.autograd.grad((ours * slope).sum(), list(sampler.parameters()), allow_unused=True)

    if name == "pc_darts":
        weights = sampler.alpha[group].softmax(dim=1)
        edge_weights = sampler.get_parameter(f"beta.{group}")[:2].softmax(dim=0)
    else:
        weights, edge_weights = sampler.draw(0.5, torch.Generator().manual_seed(4)).gates[group], torch.ones(2)
    node = nodes.get_submodule("2")
    assert isinstance(node, PartialNode)
    theirs = torch.zeros_like(slope)
    for edge in range(2):
        modules = {p: node.mixed.ops[f"{edge}_{p}"] for p in PRIMITIVES if p != "none"}
        with plain_kernels():
            theirs = theirs + edge_weights[edge] * mixed_edge(modules, weights[edge], x[edge], halve=halved > 0)
    expected = torch.autograd.grad((theirs * slope).sum(), list(sampler.parameters()), allow_unused=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for got, wanted, parameter in zip(own, expected, sampler.parameters(), strict=True):
        nothing = torch.zeros_like(parameter)
        one, other = (nothing if gradient is None else gradient for gradient in (got, wanted))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert any(gradient is not None and bool(gradient.any()) for gradient in own)
