"""What hangs on the calls of inner layers has its effect: hooks, pruning, parametrisations, exchanged layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization

from datanas.kernels.bare import is_bare
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates
from datanas.kernels.mixed import MixedNode
from datanas.kernels.switch import plain_kernels
from datanas.ops import NONE, OpSettings, operations
from datanas.ops.identity import Zero

NAMES = [name for name in sorted(operations) if name != NONE and "_x" not in name]  # "_x2": two in a row, nothing new
CHANNELS = 4
OPERATIONS = pytest.mark.parametrize("name", NAMES)
STRIDES = pytest.mark.parametrize("stride", [1, 2])


def make(name: str, stride: int = 1) -> nn.Module:
    torch.manual_seed(0)
    op = operations[name](OpSettings(CHANNELS, stride, pooling_norm=True))
    return op.double().to(memory_format=torch.channels_last)


def maps() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, CHANNELS, 6, 6, dtype=torch.double, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def leaves(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if not list(part.children())]


def run(op: nn.Module, *, plain: bool = False) -> list[Tensor]:
    """Output and every gradient, twice: what is kept from the first pass must not reach the second."""
    x = maps().requires_grad_()
    found: list[Tensor] = []
    for _ in range(2):
        with plain_kernels() if plain else nullcontext():
            y = op(x)
        y.square().sum().backward()
        found.append(y.detach())
    return [*found, x.grad, *(weight.grad for weight in op.parameters() if weight.grad is not None)]  # type: ignore[list-item]


def assert_plain(make_changed: Callable[[], nn.Module], unchanged: nn.Module) -> None:
    """The changed operation computes what its layers compute in turn, and that is something else than before."""
    ours, theirs = run(make_changed()), run(make_changed(), plain=True)
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(ours[0], run(unchanged)[0], rtol=1e-9)


@STRIDES
@OPERATIONS
def test_forward_hooks_of_all_layers_run(name: str, stride: int) -> None:
    op = make(name, stride)
    called: list[str] = []
    for layer in leaves(op):
        part = op.get_submodule(layer)
        part.register_forward_pre_hook(lambda *_, name=layer: called.append(f"before {name}"))
        part.register_forward_hook(lambda *_, name=layer: called.append(f"after {name}"))
    op(maps())
    assert sorted(called) == sorted(f"{when} {layer}" for layer in leaves(op) for when in ("before", "after"))


@STRIDES
@OPERATIONS
def test_backward_hooks_of_all_layers_run(name: str, stride: int) -> None:
    op = make(name, stride)
    called: list[str] = []
    for layer in leaves(op):
        part = op.get_submodule(layer)
        part.register_full_backward_pre_hook(lambda *_, name=layer: called.append(f"before {name}"))
        part.register_full_backward_hook(lambda *_, name=layer: called.append(f"after {name}"))
    op(maps().requires_grad_()).sum().backward()
    assert sorted(called) == sorted(f"{when} {layer}" for layer in leaves(op) for when in ("before", "after"))


PARTS = [(name, part) for name in NAMES for part, _ in make(name, 2).named_modules()]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_hook_on_any_part_changes_the_output(name: str, part: str) -> None:
    def changed() -> nn.Module:
        op = make(name, 2)
        op.get_submodule(part).register_forward_hook(lambda module, inputs, output: output.sin() + 0.25)
        return op

    assert_plain(changed, make(name, 2))


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_node_runs_operations_with_hooks_as_they_are(name: str, part: str) -> None:
    def node(hooked: bool) -> MixedNode:
        op = make(name, 2)
        if hooked:
            op.get_submodule(part).register_forward_hook(lambda module, inputs, output: output.sin() + 0.25)
        return MixedNode({"0": CellOperation(0, 0, 0, 1, op), "1": CellOperation(0, 1, 0, 1, make(name, 2))}, Zero(2))

    def gradients(*, hooked: bool, opened: float, plain: bool) -> list[Tensor]:
        """The node's value and the gradient of its gates, the hooked one open or closed."""
        values = torch.tensor([[opened, 1.0]], dtype=torch.double, requires_grad=True)
        gates = Gates(values, ((opened, 1.0),))
        with plain_kernels() if plain else nullcontext():
            y = node(hooked)([maps()], gates)
        y.square().sum().backward()
        assert values.grad is not None
        return [y.detach(), values.grad]

    for opened in (0.0, 0.5):
        ours, theirs = (gradients(hooked=True, opened=opened, plain=plain) for plain in (False, True))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(ours[1], gradients(hooked=False, opened=opened, plain=False)[1], rtol=1e-9)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight.tanh()


REPARAMETRISED: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "parametrised": lambda layer: register_parametrization(layer, "weight", Doubled()),
    "weight norm": lambda layer: parametrizations.weight_norm(layer),
    "older weight norm": lambda layer: weight_norm(layer),
    "spectral norm": lambda layer: parametrizations.spectral_norm(layer),
    "older spectral norm": lambda layer: spectral_norm(layer),
}
WEIGHTS = [
    (name, weight.removesuffix(".weight"))
    for name in NAMES
    for weight, _ in make(name, 2).named_parameters()
    if weight.endswith("weight")
]


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("kind", REPARAMETRISED)
@pytest.mark.parametrize(("name", "layer"), WEIGHTS)
def test_a_reparametrised_weight_is_the_one_that_counts(name: str, layer: str, kind: str) -> None:
    def changed() -> nn.Module:
        op = make(name, 2).to(memory_format=torch.contiguous_format).eval()  # whose weights pruning can read
        part = op.get_submodule(layer)
        if isinstance(part, nn.BatchNorm2d):
            if kind not in ("pruned", "parametrised"):
                pytest.skip("for weights of two dimensions and more")
            with torch.no_grad():
                part.weight.copy_(torch.linspace(0.5, 1.5, part.num_features))
        torch.manual_seed(1)
        REPARAMETRISED[kind](part)
        for weight, value in part.named_parameters():  # what it was computed from has changed since
            if weight.endswith(("_orig", "original", "_g", "original0")):
                with torch.no_grad():
                    value.mul_(1.5)
        return op.to(memory_format=torch.channels_last)

    assert_plain(changed, make(name, 2).eval())


@STRIDES
@OPERATIONS
def test_an_exchanged_layer_takes_the_place_of_the_old_one(name: str, stride: int) -> None:
    for layer in leaves(make(name, stride)):
        if layer:

            def changed(layer: str = layer) -> nn.Module:
                op = make(name, stride)
                old = op.get_submodule(layer)
                op.set_submodule(layer, nn.Sequential(old, nn.Softplus()))
                return op

            assert_plain(changed, make(name, stride))


@STRIDES
@OPERATIONS
def test_a_convolution_that_was_given_a_bias_adds_it(name: str, stride: int) -> None:
    for layer in leaves(make(name, stride)):
        if isinstance(make(name, stride).get_submodule(layer), nn.Conv2d):

            def changed(layer: str = layer) -> nn.Module:
                op = make(name, stride).eval()
                conv = op.get_submodule(layer)
                channels = conv.get_parameter("weight").shape[0]
                conv.bias = nn.Parameter(torch.full((channels,), 0.5, dtype=torch.double))
                return op

            assert_plain(changed, make(name, stride).eval())


def test_hooks_of_all_modules_are_seen() -> None:
    op, called = make("sep_conv_3x3"), []
    handle = torch_module.register_module_forward_hook(lambda module, *_: called.append(type(module)))
    try:
        assert not is_bare(op)
        op(maps())
    finally:
        handle.remove()
    assert called.count(nn.ReLU) == 2
    assert is_bare(op)


def test_a_forward_of_an_instance_is_called() -> None:
    def changed() -> nn.Module:
        op = make("dil_conv_3x3")
        conv = op.get_submodule("2")
        inner = conv.forward
        conv.forward = lambda x: inner(x).sin()
        return op

    assert_plain(changed, make("dil_conv_3x3"))


def test_an_operation_is_bare_again_without_its_hook() -> None:
    op = make("sep_conv_5x5")
    handle = op.get_submodule("1.2").register_forward_hook(lambda *_: None)
    assert not is_bare(op)
    handle.remove()
    assert is_bare(op)
