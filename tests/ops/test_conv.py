from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datanas.kernels.depthwise import DepthwiseConv
from datanas.kernels.switch import plain_kernels
from datanas.ops import OpSettings, operations
from datanas.ops.conv import FactorizedReduce, PointwiseConv, ReLUConvBN


def test_separable_convolution_is_applied_twice_and_dilated_once() -> None:
    def depthwise(name: str) -> list[nn.Conv2d]:
        op = operations[name](OpSettings(4, 2))
        return [part for part in op.modules() if isinstance(part, nn.Conv2d) and part.groups == 4]

    assert [conv.stride for conv in depthwise("sep_conv_3x3")] == [(2, 2), (1, 1)]
    assert [conv.dilation for conv in depthwise("dil_conv_5x5")] == [(2, 2)]


def test_order_is_relu_conv_norm() -> None:
    op = operations["dil_conv_3x3"](OpSettings(4))
    assert [type(part).__name__ for part in op.children()] == ["ReLU", "DepthwiseConv", "Conv2d", "BatchNorm2d"]


def test_factorized_reduction_reads_even_and_odd_pixels() -> None:
    reduce = FactorizedReduce(1, 2, affine=False).eval()
    with torch.no_grad():
        reduce.even.weight.fill_(1)
        reduce.odd.weight.fill_(1)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    even, odd = reduce(image)[0]
    torch.testing.assert_close(even, image[0, 0, ::2, ::2], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(odd, image[0, 0, 1::2, 1::2], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_is_torchs_own(stride: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = PointwiseConv(4, 2, stride).double().to(memory_format=layout)
    x = torch.randn(3, 4, 8, 7, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    expected = F.conv2d(x, conv.weight, None, stride)
    torch.testing.assert_close(conv(x), expected)
    wanted = [x, conv.weight]
    slope = torch.randn_like(expected)
    for own, theirs in zip(
        torch.autograd.grad(conv(x), wanted, slope), torch.autograd.grad(expected, wanted, slope), strict=True
    ):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("make", [lambda: FactorizedReduce(4, 4), lambda: ReLUConvBN(4, 4, 1, 2)])
def test_no_strided_kernel_is_asked_of_a_pointwise_convolution(make: Callable[[], nn.Module]) -> None:
    """That of few channels writes beyond its memory on some processors."""
    module = make().to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    for kernels in (nullcontext, plain_kernels):
        with kernels(), torch.profiler.profile(record_shapes=True) as profile:
            module(x).sum().backward()
        asked = [event for event in profile.events() if event.name == "aten::convolution_backward"]
        assert asked
        assert all(event.input_shapes[0] == [2, event.input_shapes[2][0], 4, 4] for event in asked)
        assert all(event.input_shapes[1][2:] == [4, 4] for event in asked)


def test_average_pooling_leaves_out_the_padding() -> None:
    pool = operations["avg_pool_3x3"](OpSettings(1))
    torch.testing.assert_close(pool(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def weight_gradient(conv: nn.Module, precision: torch.dtype | None) -> torch.Tensor:
    torch.manual_seed(0)
    x = torch.randn(8, 16, 32, 32).contiguous(memory_format=torch.channels_last)
    target = torch.randn(8, 16, 32, 32)
    with torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
        y = conv(x)
    weight = conv.get_parameter("weight")
    weight.grad = None
    y.backward(target.to(y.dtype))
    assert weight.grad is not None
    return weight.grad.clone()


def relative_error(conv: nn.Module) -> float:
    exact = weight_gradient(conv, None)
    return float((weight_gradient(conv, torch.bfloat16) - exact).norm() / exact.norm())


@pytest.mark.parametrize("dilation", [1, 2])
def test_bfloat16_gradient_of_a_depthwise_convolution_is_right_on_the_cpu(dilation: int) -> None:
    conv = DepthwiseConv(16, 3, dilation=dilation).to(memory_format=torch.channels_last)
    assert relative_error(conv) < 0.02


@pytest.mark.parametrize("make", [ReLUConvBN, FactorizedReduce])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_what_has_been_rectified_needs_no_second_relu(make: type[nn.Module], layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 6, 7, dtype=torch.double).relu().contiguous(memory_format=layout)
    found = []
    for rectified in (True, False):
        torch.manual_seed(0)
        module = make(3, 4, rectified=rectified).double()
        given = x.clone().requires_grad_()
        output = module(given)
        (into_x, *into_weights) = torch.autograd.grad(output.square().sum(), [given, *module.parameters()])
        found.append([output, into_x * (x > 0), *into_weights])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_without_the_flag_negative_input_is_rectified() -> None:
    """Negative control."""
    x = torch.randn(2, 3, 6, 6)
    torch.manual_seed(0)
    plain = ReLUConvBN(3, 4)
    torch.manual_seed(0)
    assert not torch.allclose(plain(x), ReLUConvBN(3, 4, rectified=True)(x))
