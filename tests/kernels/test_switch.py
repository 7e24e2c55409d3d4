"""In channels-last layout every operation computes what torch's own modules compute: outputs, gradients, buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from datanas.kernels import depthwise
from datanas.kernels.norm import EndsInNorm
from datanas.kernels.switch import own_kernels, plain_kernels
from datanas.ops import NONE, OpSettings, operations, separable
from datanas.ops.conv import FactorizedReduce
from datanas.ops.inverted import Residual

NAMES = [name for name in sorted(operations) if name != NONE and "_x" not in name]  # "_x2": two in a row, nothing new
NARROW, WIDE = 3, 36
"""Channels for which batch norm runs by our kernel in training, and by torch's."""


def make(
    name: str, channels: int = NARROW, stride: int = 1, *, affine: bool = True, training: bool = True
) -> nn.Module:
    """The operation in double precision, with random numbers in its batch norms."""
    torch.manual_seed(0)
    op = operations[name](OpSettings(channels, stride, affine=affine, pooling_norm=True))
    with torch.no_grad():
        for norm in (part for part in op.modules() if isinstance(part, nn.BatchNorm2d)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
            for weight in norm.parameters():
                weight.normal_()
    return op.double().to(memory_format=torch.channels_last).train(training)


def maps(channels: int = NARROW, size: tuple[int, int] = (6, 6)) -> Tensor:
    """Random numbers; one pixel is exactly zero, where ReLU has a kink."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, *size, dtype=torch.double, generator=generator)
    x[:, :, 1, 1] = 0
    return x.contiguous(memory_format=torch.channels_last)


def run(op: nn.Module, x: Tensor, *, plain: bool = False, into_input: bool = True) -> dict[str, Tensor]:
    """Output, every gradient and every buffer after a pass of a copy of `op`."""
    op = deepcopy(op)
    x = x.clone().requires_grad_(into_input)
    with plain_kernels() if plain else nullcontext():
        y = op(x)
        slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        (y * slope + y.square() * slope.flip(0)).sum().backward()
    found = {"output": y.detach()} | ({} if x.grad is None else {"input": x.grad})
    found |= {f"gradient of {name}": weight.grad for name, weight in op.named_parameters() if weight.grad is not None}
    return found | dict(op.named_buffers())


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    torch.testing.assert_close(dict(ours), dict(theirs), rtol=1e-9, atol=1e-9)


EVERY = [(name, stride, make(name, stride=stride)) for name in NAMES for stride in (1, 2)]
WITH_FEATURES = [(name, stride) for name, stride, op in EVERY if isinstance(op, EndsInNorm)]
WITH_WEIGHTS = [(name, stride) for name, stride, op in EVERY if list(op.parameters())]


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
@pytest.mark.parametrize("channels", [NARROW, WIDE])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_own_kernels_equal_plain_ones(
    name: str, stride: int, affine: bool, training: bool, channels: int, size: tuple[int, int]
) -> None:
    op, x = make(name, channels, stride, affine=affine, training=training), maps(channels, size)
    assert_same(run(op, x), run(op, x, plain=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [NARROW, WIDE])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_own_kernels_equal_plain_ones_without_a_graph(name: str, stride: int, channels: int, training: bool) -> None:
    ours, x = make(name, channels, stride, training=training), maps(channels, (5, 7))
    theirs = deepcopy(ours)
    with torch.no_grad():
        found = ours(x)
        with plain_kernels():
            expected = theirs(x)
    assert_same({"output": found, **dict(ours.named_buffers())}, {"output": expected, **dict(theirs.named_buffers())})


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
@pytest.mark.parametrize(("name", "stride"), WITH_FEATURES)
def test_features_take_the_rectified_input(name: str, stride: int, size: tuple[int, int]) -> None:
    op, x = make(name, stride=stride), maps(size=size)
    assert isinstance(op, EndsInNorm)
    with torch.no_grad():
        torch.testing.assert_close(op.features(x, rectified=x.relu()), op.features(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "stride"), WITH_FEATURES)
def test_features_are_what_the_last_norm_is_given(name: str, stride: int) -> None:
    op, x = make(name, stride=stride), maps()
    assert isinstance(op, EndsInNorm)
    with plain_kernels():
        expected = op(x)
    torch.testing.assert_close(op.last_norm(op.features(x)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [NARROW, WIDE])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_frozen_weights_pass_the_same_input_gradient(name: str, stride: int, channels: int) -> None:
    op, x = make(name, channels, stride), maps(channels)
    expected = run(op, x, plain=True)["input"]
    for weight in op.parameters():
        weight.requires_grad_(False)
    found = run(op, x)
    torch.testing.assert_close(found["input"], expected, rtol=1e-9, atol=1e-9)
    assert not [key for key in found if key.startswith("gradient")]


@pytest.mark.parametrize(("name", "stride"), WITH_WEIGHTS)
def test_weights_learn_from_an_input_without_gradient(name: str, stride: int) -> None:
    op, x = make(name, stride=stride), maps()
    assert_same(run(op, x, into_input=False), run(op, x, plain=True, into_input=False))


LEARNING = [(name, weight) for name in NAMES for weight, _ in make(name, stride=2).named_parameters()]


@pytest.mark.parametrize(("name", "alone"), LEARNING)
def test_one_weight_learns_where_all_else_is_frozen(name: str, alone: str) -> None:
    op, x = make(name, stride=2), maps()
    for key, weight in op.named_parameters():
        weight.requires_grad_(key == alone)
    assert_same(run(op, x, into_input=False), run(op, x, plain=True, into_input=False))


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 2),
        ("dil_conv_3x3", 1),
        ("dil_conv_5x5", 2),
        ("conv_1x1", 1),
        ("conv_3x3", 2),
        ("skip_connect", 2),
    ],
)
@pytest.mark.parametrize("channels", [NARROW, WIDE])
def test_second_derivative_is_refused(name: str, stride: int, channels: int) -> None:
    op, x = make(name, channels, stride), maps(channels).requires_grad_()
    with pytest.raises(RuntimeError, match="plain_kernels"):
        torch.autograd.grad(op(x).pow(3).sum(), x, create_graph=True)


@pytest.mark.parametrize(("name", "stride"), [("sep_conv_3x3", 1), ("dil_conv_3x3", 1), ("skip_connect", 2)])
def test_second_derivative_is_right_under_plain_kernels(name: str, stride: int) -> None:
    torch.manual_seed(2)
    op = make(name, 2, stride)
    x = torch.randn(2, 2, 3, 3, dtype=torch.double).contiguous(memory_format=torch.channels_last).requires_grad_()
    with plain_kernels():
        assert torch.autograd.gradgradcheck(op, (x,))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "stride"), [(name, stride) for name, stride, op in EVERY if type(op) not in (FactorizedReduce, Residual)]
)
def test_plain_kernels_are_the_modules_in_turn(name: str, stride: int, training: bool) -> None:
    """The reference itself: it shares the way through nested operations with our kernels."""
    op, x = make(name, stride=stride, training=training), maps()
    with plain_kernels():
        expected = op(x)
        for leaf in (part for part in op.modules() if not list(part.children())):
            x = leaf(x)
    torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)


def test_plain_kernels_end_with_their_block() -> None:
    op, x = make("dil_conv_3x3"), maps()
    with plain_kernels():
        with plain_kernels():
            pass
        assert type(op(x).grad_fn).__name__ == "NativeBatchNormBackward0"
    assert type(op(x).grad_fn).__name__ == "_BatchNormBackward"


def test_plain_kernels_end_with_an_error() -> None:
    with pytest.raises(KeyError), plain_kernels():
        raise KeyError
    assert own_kernels()


def test_plain_kernels_are_of_one_thread() -> None:
    with plain_kernels(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(own_kernels).result()
        assert not own_kernels()


@pytest.mark.parametrize("transform", [vmap, grad, lambda f: lambda x: jvp(f, (x,), (x,))], ids=["vmap", "grad", "jvp"])
def test_kernels_stand_aside_in_transformed_functions(transform: Callable[..., Any]) -> None:
    seen: list[bool] = []
    transform(lambda x: seen.append(own_kernels()) or x.sum())(torch.ones(2, 3))
    assert seen == [False]


def test_kernels_stand_aside_while_a_mode_looks_on() -> None:
    with FlopCounterMode(display=False):
        assert not own_kernels()
    with forward_ad.dual_level():
        assert not own_kernels()
    assert own_kernels()


def test_a_slightly_wrong_kernel_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a weight gradient that is off by a millionth."""
    right = depthwise.gradients_of

    def wrong(*arguments: object) -> tuple[Tensor | None, Tensor | None]:
        into_x, into_weight = right(*arguments)  # type: ignore[arg-type]
        return into_x, None if into_weight is None else into_weight * (1 + 1e-6)

    op, x = make("sep_conv_3x3"), maps()
    monkeypatch.setattr(separable, "gradients_of", wrong)
    with pytest.raises(AssertionError, match=r"gradient of 0\.1\.weight"):
        assert_same(run(op, x), run(op, x, plain=True))
